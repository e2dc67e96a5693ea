import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readEventStream } from "./event-stream.ts";

async function read(chunks: readonly (string | Uint8Array)[]) {
  const waits: number[] = [];
  const events = [];
  async function* body() {
    for (const chunk of chunks) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
  }
  for await (const event of readEventStream(body(), (waitMs) => waits.push(waitMs))) events.push(event);
  return { events, waits };
}

describe("readEventStream()", () => {
  test("reads names, data of several lines, ids and the time to wait", async () => {
    const { events, waits } = await read([
      'retry: 2000\nid: 7\nevent: first\ndata: {"a":1}\n\n:\n\ndata: one\ndata:two\n\n',
    ]);
    expect(events).toEqual([
      { name: "first", data: '{"a":1}', lastId: "7" },
      { name: "message", data: "one\ntwo", lastId: "7" },
    ]);
    expect(waits).toEqual([2000]);
  });

  test("leaves out an event without data, and one that was cut off", async () => {
    const { events } = await read(["event: empty\n\nevent: cut\ndata: x\n"]);
    expect(events).toEqual([]);
  });

  test("takes every kind of line end, wherever the bytes are cut", async () => {
    const text = "id: ä1\r\nevent: a\rdata: grün\n\r\ndata: 2\r\n\r\n";
    const whole = (await read([text])).events;
    expect(whole).toEqual([
      { name: "a", data: "grün", lastId: "ä1" },
      { name: "message", data: "2", lastId: "ä1" },
    ]);
    const bytes = Buffer.from(text);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(bytes.length), { maxLength: 8 }), async (cuts) => {
        const ends = [...cuts, bytes.length].sort((left, right) => left - right);
        const chunks = ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
        expect((await read(chunks)).events).toEqual(whole);
      }),
    );
  });
});
