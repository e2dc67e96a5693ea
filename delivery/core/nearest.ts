/**
 * The known name that a wrong one was probably meant to be, or undefined when none is near: at most a third of the
 * letters differ, case aside.
 */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  // A name far longer than any known one is near none, and is not worth the comparing.
  const candidates = known.filter((other) => Math.abs(other.length - name.length) <= allowance(other));
  let nearest: string | undefined;
  let least = Infinity;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least && distance <= allowance(candidate)) {
      nearest = candidate;
      least = distance;
    }
  }
  return nearest;
}

/**
 * Says that a name is not one of the known ones: `"SESSION:DONE" is not a PAVE event. Did you mean …? Known: …`.
 *
 * @param what the kind of name, with its article: `a PAVE event`
 */
export function unknownName(what: string, name: string, known: readonly string[]): string {
  const nearest = nearestName(name, known);
  const question = nearest === undefined ? "" : ` Did you mean "${nearest}"?`;
  return `"${shortened(name)}" is not ${what}.${question} Known: ${known.join(", ")}.`;
}

function allowance(name: string): number {
  return Math.max(2, Math.floor(name.length / 3));
}

function shortened(name: string): string {
  return name.length > 100 ? `${name.slice(0, 100)}…` : name;
}

/** Levenshtein's distance, one row of the table at a time. */
function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let index = 0; index < left.length; index += 1) {
    const next = [index + 1];
    for (let column = 1; column <= right.length; column += 1) {
      const replaced = (row[column - 1] ?? 0) + (right[column - 1] === left[index] ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[right.length] ?? 0;
}
