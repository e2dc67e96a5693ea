/** Headers that frame or route the request: the sender's alone. */
const reservedNames = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** RFC 9110: a token, and visible ASCII, Latin-1, spaces and tabs. */
const namePattern = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// eslint-disable-next-line no-control-regex -- the tab is what HTTP allows.
const valuePattern = /^[\x09\x20-\x7e\x80-\xff]*$/;

/**
 * An endpoint's own headers as they go on the wire: names in lower case, values trimmed. What HTTP forbids and what the
 * sender sets itself is left out, so that no header can end the head of a request or change where it goes.
 */
export function toWireHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers)
      .filter(([name, value]) => isAllowed(name) && valuePattern.test(value))
      .map(([name, value]) => [name.toLowerCase(), value.trim()]),
  );
}

/** What is wrong with an endpoint's own headers, one sentence each, without the values. */
export function headerProblems(headers: Readonly<Record<string, string>>): string[] {
  const problems: string[] = [];
  const seen = new Set<string>();
  for (const [name, value] of Object.entries(headers)) {
    if (!namePattern.test(name)) {
      problems.push(`The header name "${name}" is not allowed in HTTP: use letters, digits and hyphens.`);
    } else if (!isAllowed(name)) {
      problems.push(`The header "${name}" is set by the service itself: leave it out.`);
    } else if (!valuePattern.test(value)) {
      problems.push(
        `The value of the header "${name}" has characters that HTTP forbids, such as a line break.`,
      );
    }
    if (seen.has(name.toLowerCase())) problems.push(`The header "${name}" is given twice.`);
    seen.add(name.toLowerCase());
  }
  return problems;
}

function isAllowed(name: string): boolean {
  return namePattern.test(name) && !reservedNames.has(name.toLowerCase());
}
