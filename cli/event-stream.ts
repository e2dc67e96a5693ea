/** An event of a stream of server-sent events. */
export interface StreamedEvent {
  /** `message` where the server gives it no name. */
  readonly name: string;
  readonly data: string;
  /** The id of the last event that had one; empty for none. */
  readonly lastId: string;
}

/**
 * Reads server-sent events as they come, https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 *
 * @param onRetry hears how many milliseconds the server wants clients to wait before they connect anew
 */
export async function* readEventStream(
  body: AsyncIterable<Uint8Array>,
  onRetry: (waitMs: number) => void = () => undefined,
): AsyncGenerator<StreamedEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  let name = "";
  let data: string[] = [];
  let lastId = "";
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    // A line feed may come with the next chunk.
    const isCut = rest.endsWith("\r");
    const lines = (isCut ? rest.slice(0, -1) : rest).split(/\r\n|\n|\r/);
    rest = `${lines.pop() ?? ""}${isCut ? "\r" : ""}`;
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { name: name || "message", data: data.join("\n"), lastId };
        name = "";
        data = [];
        continue;
      }
      const [, field = "", value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === "event") name = value;
      else if (field === "data") data.push(value);
      else if (field === "id" && !value.includes("\0")) lastId = value;
      else if (field === "retry" && /^\d+$/.test(value)) onRetry(Number(value));
    }
  }
}
