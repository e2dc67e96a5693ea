import { createHash, createHmac } from "node:crypto";
import { parse, stringify } from "node:querystring";
import { equalInConstantTime } from "../../core/constant-time.ts";

/**
 * The URL that a request's signature covers: as it goes on the wire (so without userinfo and fragment), and over https
 * without the port (https://www.twilio.com/docs/usage/security).
 */
export function toSignedUrl(url: URL): string {
  const signed = new URL(url);
  if (signed.protocol === "https:") signed.port = "";
  signed.username = "";
  signed.password = "";
  signed.hash = "";
  return signed.href;
}

/**
 * The value of `X-Twilio-Signature`: the base64 HMAC-SHA1, keyed with the auth token, of the URL and each parameter's
 * name and value in the order of the names; of a repeated one each different value, in order.
 */
export function toSignature(authToken: string, url: string, parameters: URLSearchParams): string {
  return signText(authToken, url + toSignedParameters(parameters));
}

function signText(authToken: string, text: string): string {
  return createHmac("sha1", authToken).update(text).digest("base64");
}

function toSignedParameters(parameters: URLSearchParams): string {
  const pairs = [...parameters].sort(
    ([name, value], [otherName, otherValue]) => compare(name, otherName) || compare(value, otherValue),
  );
  return pairs
    .filter(([name, value], index) => {
      const [lastName, lastValue] = pairs[index - 1] ?? [];
      return name !== lastName || value !== lastValue;
    })
    .map(([name, value]) => name + value)
    .join("");
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

/**
 * Whether a signature is right, as Twilio's own libraries decide: the URL counts with and without its port, as it is,
 * normalized, and with its query string written as Node's `querystring` does; a URL with `bodySHA256` signs no
 * parameters but the hash of the body.
 */
export function isSignatureRight(
  authToken: string,
  signature: string,
  url: string,
  parameters: URLSearchParams,
): boolean {
  const normalized = URL.parse(url)?.href ?? url;
  const signedParameters = toSignedParameters(parameters);
  const spellings = [url, normalized, withLegacyQuery(normalized)];
  return spellings
    .flatMap((spelling) => [withoutPort(spelling), withPort(spelling)])
    .some((candidate) => equalInConstantTime(signature, signText(authToken, candidate + signedParameters)));
}

/** Whether the body is the one that a URL with `bodySHA256` promises. */
export function isBodyHashRight(url: string, body: Uint8Array): boolean {
  const promised = URL.parse(url)?.searchParams.get("bodySHA256") ?? "";
  return equalInConstantTime(promised, createHash("sha256").update(body).digest("hex"));
}

/** Scheme, userinfo, host, port and the rest, with every character as it was written. */
const urlPattern = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#]*@)?(\[[^\]]*\]|[^/?#:]*)(:\d*)?(.*)$/is;

function withoutPort(url: string): string {
  return url.replace(urlPattern, "$1$2$3$5");
}

function withPort(url: string): string {
  return url.replace(
    urlPattern,
    (_, scheme: string, userinfo: string | undefined, host: string, port: string | undefined, rest: string) =>
      scheme +
      (userinfo ?? "") +
      host +
      (port ?? (scheme.toLowerCase() === "https://" ? ":443" : ":80")) +
      rest,
  );
}

function withLegacyQuery(url: string): string {
  const start = url.indexOf("?") + 1;
  if (start === 0 || start === url.length) return url;
  return url.slice(0, start) + stringify(parse(url.slice(start)));
}
