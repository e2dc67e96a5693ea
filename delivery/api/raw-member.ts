/**
 * The text of a top-level member's value, exactly as it stands in a JSON object: white space inside it, number spelling
 * and escapes included. As with `JSON.parse`, the last of several members of the same name counts.
 *
 * @param json a text that `JSON.parse` has read as an object; the answer for any other text means nothing
 * @returns undefined when the object has no such member
 */
export function findRawMember(json: string, name: string): string | undefined {
  let found: string | undefined;
  let position = skipSpace(json, json.indexOf("{") + 1);
  while (json[position] === '"') {
    const keyEnd = endOfString(json, position);
    const key: unknown = JSON.parse(json.slice(position, keyEnd));
    const start = skipSpace(json, skipSpace(json, keyEnd) + 1);
    const end = endOfValue(json, start);
    if (key === name) found = json.slice(start, end);
    position = skipSpace(json, end);
    if (json[position] === ",") position = skipSpace(json, position + 1);
  }
  return found;
}

/** How deep the arrays and objects of a JSON text nest: 0 for a number, 1 for `{}`. */
export function nestingOf(json: string): number {
  let depth = 0;
  let deepest = 0;
  for (let position = 0; position < json.length; position += 1) {
    const character = json[position];
    if (character === '"') position = endOfString(json, position) - 1;
    else if (character === "{" || character === "[") deepest = Math.max(deepest, ++depth);
    else if (character === "}" || character === "]") depth -= 1;
  }
  return deepest;
}

function endOfValue(json: string, start: number): number {
  const first = json[start];
  if (first === '"') return endOfString(json, start);
  if (first !== "{" && first !== "[") {
    let end = start;
    while (end < json.length && !",]} \t\n\r".includes(json.charAt(end))) end += 1;
    return end;
  }
  let depth = 0;
  for (let position = start; position < json.length; position += 1) {
    const character = json[position];
    if (character === '"') position = endOfString(json, position) - 1;
    else if (character === "{" || character === "[") depth += 1;
    else if ((character === "}" || character === "]") && --depth === 0) return position + 1;
  }
  return json.length;
}

/** The position behind the string that opens at `start`. */
function endOfString(json: string, start: number): number {
  let quote = json.indexOf('"', start + 1);
  while (quote !== -1) {
    let backslashes = 0;
    while (json[quote - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return quote + 1;
    quote = json.indexOf('"', quote + 1);
  }
  return json.length;
}

function skipSpace(json: string, start: number): number {
  let position = start;
  while (position < json.length && " \t\n\r".includes(json.charAt(position))) position += 1;
  return position;
}
