import { describe, expect, test } from "vitest";
import { HttpMessages } from "./http-messages.ts";
import { eventPayload, eventText, RequestTemplate, targetName } from "./request-template.ts";
import { findStamp, stampNumber, stampTimeUs } from "./stamp.ts";

const payload = eventPayload(1024);
const template = (events: number): RequestTemplate =>
  new RequestTemplate({
    path: "/app/bench-#####/msg",
    headers: { authorization: "Bearer t" },
    body: `[${Array<string>(events).fill(payload).join(",")}]`,
  });

describe("eventPayload()", () => {
  test("is JSON of so many bytes, not of so many characters", () => {
    expect(Buffer.byteLength(payload)).toBe(1024);
    expect(payload.length).toBeLessThan(1024);
    expect(JSON.parse(payload)).toMatchObject({ currency: "EUR" });
  });

  test("refuses a size in which it does not fit", () => {
    expect(() => eventPayload(100)).toThrow("too small");
  });
});

describe("RequestTemplate", () => {
  test("numbers its events, and names its target wherever it stands", () => {
    const request = template(3);
    request.fill(1_234_567, 98_765_432_109.9, 42);
    request.fill(1_234_568, 98_765_432_110.9, 7);
    const bodies: string[] = [];
    const messages = new HttpMessages((bytes, start, bodyStart, end) => {
      expect(bytes.toString("latin1", start, bodyStart)).toContain(
        `POST /app/bench-${targetName(7)}/msg HTTP/1.1\r\n`,
      );
      bodies.push(bytes.toString("utf8", bodyStart, end));
    });
    messages.push(request.bytes);
    const events = (JSON.parse(bodies[0]!) as { stamp: string }[]).map(({ stamp }) => Buffer.from(stamp));
    expect(request.events).toBe(3);
    expect(events.map((stamp) => stampNumber(stamp, 0))).toEqual([1_234_568, 1_234_569, 1_234_570]);
    expect(events.map((stamp) => stampTimeUs(stamp, 0))).toEqual(Array(3).fill(98_765_432_110));
  });
});

describe("findStamp()", () => {
  test("finds it in a form as in JSON, and not beyond the message", () => {
    const form = Buffer.from(new URLSearchParams({ Author: "a", Body: eventText(200) }).toString());
    const position = findStamp(form, 0, form.length);
    expect(position).toBe("Author=a&Body=".length);
    expect(findStamp(form, 0, position + 10)).toBe(-1);
    expect(findStamp(Buffer.from("{}"), 0, 2)).toBe(-1);
  });
});
