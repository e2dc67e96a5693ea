import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { ErrorBody } from "./errors.ts";

const tooLarge: ErrorBody = {
  code: "headers_too_large",
  detail: "The request's URL and headers are too long: send shorter ones.",
};
const tooSlow: ErrorBody = { code: "request_timeout", detail: "The request did not come in time." };
const malformed: ErrorBody = { code: "bad_request", detail: "The request is not HTTP." };

/** Answers what is no request at all: Node gives up on it before Fastify sees it. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, content] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ([431, tooLarge] as const)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ([408, tooSlow] as const)
        : ([400, malformed] as const);
  const body = JSON.stringify(content);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
