/** Where a request for an endpoint's URL really goes. */
export interface Target {
  /** As on the wire: normalized, without userinfo and fragment. */
  readonly url: URL;
  /** The userinfo of the URL as an `authorization` header; empty without one. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Splits an endpoint's URL into what is requested and the Basic credentials it may hold.
 *
 * @throws TypeError when the URL is none
 */
export function toTarget(endpointUrl: string): Target {
  const url = new URL(endpointUrl);
  url.hash = "";
  if (url.username === "" && url.password === "") return { url, headers: {} };
  const userinfo = `${decoded(url.username)}:${decoded(url.password)}`;
  url.username = "";
  url.password = "";
  return { url, headers: { authorization: `Basic ${Buffer.from(userinfo).toString("base64")}` } };
}

/** Adds name and value pairs to a URL's query and leaves what is there as it is. */
export function withQuery(url: URL, parameters: URLSearchParams): URL {
  const extended = new URL(url);
  extended.search = [url.search.slice(1), parameters.toString()].filter((part) => part !== "").join("&");
  return extended;
}

/** Whether deliveries can go there: an absolute http or https URL. */
export function isDeliverableUrl(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed !== null && (parsed.protocol === "http:" || parsed.protocol === "https:");
}

/** Whether what is sent there is encrypted on its way. */
export function isHttpsUrl(url: string): boolean {
  return URL.parse(url)?.protocol === "https:";
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A stray percent sign stands for itself.
    return text;
  }
}
