import type { Transform } from "node:stream";
import { constants, createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from "node:zlib";

/**
 * Bytes as text: UTF-8 with U+FFFD where they are none. It has no NUL, which PostgreSQL's text does not take, and where it
 * was cut, no broken character at its end.
 */
export function toText(bytes: Buffer, from: number, to: number, isCut: boolean): string {
  if (to === from) return "";
  const text = bytes.toString("utf8", from, isCut ? wholeEnd(bytes, from, to) : to);
  return text.includes("\0") ? text.replaceAll("\0", "\ufffd") : text;
}

/** Where the last whole character ends: a character takes up to 4 bytes, of which all but the first are 10xxxxxx. */
function wholeEnd(bytes: Buffer, from: number, to: number): number {
  for (let at = to - 1; at >= Math.max(from, to - 4); at--) {
    const byte = bytes[at] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return at + size > to ? at : to;
  }
  return to;
}

/**
 * The beginning of a body with a content encoding as text, at most so many bytes of it: decoding stops there, however
 * much more the rest would become. A body that is not what its header says, or in an encoding that nobody asked for and
 * that is unknown here, is taken as it came.
 */
export async function decodedText(body: Buffer, contentEncoding: string, maxBytes: number): Promise<string> {
  const decoder = createDecoder(body, contentEncoding);
  const pieces: Buffer[] = [];
  let decodedBytes = 0;
  if (decoder) {
    try {
      decoder.end(body);
      for await (const piece of decoder as AsyncIterable<Buffer>) {
        pieces.push(piece);
        decodedBytes += piece.length;
        if (decodedBytes > maxBytes) break;
      }
    } catch {
      // Broken: what came before stands.
    } finally {
      decoder.destroy();
    }
  }
  const bytes = decodedBytes > 0 ? Buffer.concat(pieces) : body;
  const end = Math.min(bytes.length, maxBytes);
  return toText(bytes, 0, end, end < bytes.length);
}

// The end of what was read need not be the end of the body.
const asFarAsItGoes = { finishFlush: constants.Z_SYNC_FLUSH };

/** RFC 9110, section 8.4.1. `deflate` means zlib's format, but some send it without the header of that. */
function createDecoder(body: Buffer, contentEncoding: string): Transform | null {
  switch (contentEncoding) {
    case "gzip":
    case "x-gzip":
      return createGunzip(asFarAsItGoes);
    case "deflate":
      return ((body[0] ?? 0) & 0x0f) === 8 ? createInflate(asFarAsItGoes) : createInflateRaw(asFarAsItGoes);
    case "br":
      return createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH });
    default:
      return null;
  }
}
