const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;

/**
 * The text of a top-level member's value, exactly as it stands in a JSON object: white space inside it, number spelling
 * and escapes included. As with `JSON.parse`, the last of several members of the same name counts.
 *
 * @param json a text that `JSON.parse` has read as an object; the answer for any other text means nothing
 * @returns undefined when the object has no such member
 */
export function findRawMember(json: string, name: string): string | undefined {
  let found: string | undefined;
  walkObject(json, json.indexOf("{"), (key, start) => {
    const end = endOfValue(json, start);
    if (key === name) found = json.slice(start, end);
    return end;
  });
  return found;
}

/**
 * The same for each object of a list that is a top-level member, in one walk over the text.
 *
 * @returns one text for each item; undefined for an item without the member. None at all where there is no such list.
 */
export function findRawMembers(json: string, list: string, name: string): (string | undefined)[] {
  let found: (string | undefined)[] = [];
  walkObject(json, json.indexOf("{"), (key, start) => {
    if (key !== list) return endOfValue(json, start);
    found = [];
    return walkList(json, start, (at) => {
      let text: string | undefined;
      const end = walkObject(json, at, (member, valueStart) => {
        const valueEnd = endOfValue(json, valueStart);
        if (member === name) text = json.slice(valueStart, valueEnd);
        return valueEnd;
      });
      found.push(text);
      return end;
    });
  });
  return found;
}

/** Whether the arrays and objects of a JSON text nest deeper than `limit`; `{}` has a depth of 1. */
export function isDeeperThan(limit: number, json: string): boolean {
  // What opens no more often than that cannot nest deeper, and counting costs next to nothing.
  if (count(json, "{", limit) + count(json, "[", limit) <= limit) return false;
  let depth = 0;
  for (let position = 0; position < json.length; position += 1) {
    const code = json.charCodeAt(position);
    if (code === quote) position = endOfString(json, position) - 1;
    else if (code === openBrace || code === openBracket) {
      if (++depth > limit) return true;
    } else if (code === closeBrace || code === closeBracket) depth -= 1;
  }
  return false;
}

/** How often a character occurs; counted up to `limit` and one more. */
function count(text: string, character: string, limit: number): number {
  let found = 0;
  for (let at = text.indexOf(character); at !== -1 && found <= limit; at = text.indexOf(character, at + 1))
    found++;
  return found;
}

/**
 * Visits each member of the object at `start`. The visitor gets the position of the value, and answers the one behind it.
 *
 * @returns the position behind the object, or behind the value where it is none
 */
function walkObject(json: string, start: number, visit: (key: string, valueStart: number) => number): number {
  if (json.charCodeAt(start) !== openBrace) return endOfValue(json, start);
  let position = skipSpace(json, start + 1);
  while (json.charCodeAt(position) === quote) {
    const keyEnd = endOfString(json, position);
    const key = textOf(json, position, keyEnd);
    position = skipSpace(json, visit(key, skipSpace(json, skipSpace(json, keyEnd) + 1)));
    if (json.charCodeAt(position) === comma) position = skipSpace(json, position + 1);
  }
  return position + 1;
}

/** Visits each item of the list at `start`, in the same way. */
function walkList(json: string, start: number, visit: (itemStart: number) => number): number {
  if (json.charCodeAt(start) !== openBracket) return endOfValue(json, start);
  let position = skipSpace(json, start + 1);
  while (position < json.length && json.charCodeAt(position) !== closeBracket) {
    position = skipSpace(json, visit(position));
    if (json.charCodeAt(position) === comma) position = skipSpace(json, position + 1);
  }
  return position + 1;
}

function endOfValue(json: string, start: number): number {
  const first = json.charCodeAt(start);
  if (first === quote) return endOfString(json, start);
  if (first !== openBrace && first !== openBracket) {
    let end = start;
    while (end < json.length && !",]} \t\n\r".includes(json.charAt(end))) end += 1;
    return end;
  }
  let depth = 0;
  for (let position = start; position < json.length; position += 1) {
    const code = json.charCodeAt(position);
    if (code === quote) position = endOfString(json, position) - 1;
    else if (code === openBrace || code === openBracket) depth += 1;
    else if ((code === closeBrace || code === closeBracket) && --depth === 0) return position + 1;
  }
  return json.length;
}

/** The position behind the string that opens at `start`. */
function endOfString(json: string, start: number): number {
  let end = json.indexOf('"', start + 1);
  while (end !== -1) {
    let backslashes = 0;
    while (json.charCodeAt(end - 1 - backslashes) === backslash) backslashes += 1;
    if (backslashes % 2 === 0) return end + 1;
    end = json.indexOf('"', end + 1);
  }
  return json.length;
}

function textOf(json: string, start: number, end: number): string {
  const text = json.slice(start + 1, end - 1);
  return text.includes("\\") ? (JSON.parse(json.slice(start, end)) as string) : text;
}

function skipSpace(json: string, start: number): number {
  let position = start;
  while (position < json.length && " \t\n\r".includes(json.charAt(position))) position += 1;
  return position;
}
