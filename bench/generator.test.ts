import { createServer, type AddressInfo, type Socket } from "node:net";
import { afterAll, describe, expect, test } from "vitest";
import { Child } from "./child.ts";
import type { GeneratorMethods, Load } from "./generator.ts";
import { HttpMessages } from "./http-messages.ts";
import { emptyStamp, findStamp, stampNumber, stampTimeUs } from "./stamp.ts";

const generator = new Child<GeneratorMethods>("generator.ts");
afterAll(() => generator[Symbol.asyncDispose]());

interface Request {
  readonly number: number;
  readonly timeUs: number;
  readonly path: string;
  readonly socket: Socket;
  readonly answer: (status: number, body?: string) => void;
}

/** A server that hands each request to the test. */
async function listen(onRequest: (request: Request) => void) {
  const server = createServer((socket) => {
    const messages = new HttpMessages((bytes, start, bodyStart, end) => {
      const stamp = findStamp(bytes, bodyStart, end);
      onRequest({
        number: stampNumber(bytes, stamp),
        timeUs: stampTimeUs(bytes, stamp),
        path: bytes.toString("latin1", start, bytes.indexOf(" HTTP/1.1")).slice("POST ".length),
        socket,
        answer(status, body = "{}") {
          socket.write(`HTTP/1.1 ${status} Text\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
        },
      });
    });
    socket.on("data", (chunk) => {
      messages.push(chunk);
    });
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1" }, resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.dispose]: () => server.close(),
  };
}

function loadOf(port: number, changes: Partial<Load>): Load {
  return {
    ports: [port],
    request: { path: "/app/#####", headers: {}, body: `{"stamp":"${emptyStamp}"}` },
    pace: { kind: "closed", connections: 3 },
    seconds: 60,
    firstNumber: 0,
    targets: 1,
    ...changes,
  };
}

describe("a closed loop", () => {
  test("has one request under way on each connection, and numbers its events", async () => {
    const underWay = new Map<Socket, number>();
    let most = 0;
    const numbers: number[] = [];
    const paths = new Set<string>();
    using server = await listen(({ number, path, socket, answer }) => {
      underWay.set(socket, (underWay.get(socket) ?? 0) + 1);
      most = Math.max(most, ...underWay.values());
      numbers.push(number);
      paths.add(path);
      setImmediate(() => {
        underWay.set(socket, underWay.get(socket)! - 1);
        answer(202);
      });
    });
    const result = await generator.call(
      "run",
      loadOf(server.port, { events: 50, firstNumber: 7, targets: 2 }),
    );
    const issued = result.accepted.length;
    expect(issued).toBeGreaterThanOrEqual(50);
    expect(issued).toBeLessThan(50 + 3);
    expect(result.statuses).toEqual({ 202: issued });
    expect(result.accepted).toEqual(new Uint8Array(issued).fill(1));
    expect(numbers.toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: issued }, (_, index) => index + 7),
    );
    expect([...paths].sort()).toEqual(["/app/00000", "/app/00001"]);
    expect(underWay.size).toBe(3);
    expect(most).toBe(1);
    expect(result.answersMs.every((ms) => ms > 0)).toBe(true);
  });

  test("takes no event for accepted that was refused or whose connection broke, and goes on", async () => {
    using server = await listen(({ number, socket, answer }) => {
      if (number % 5 === 1) answer(429);
      else if (number % 5 === 2) socket.destroy();
      else answer(202);
    });
    const { accepted, statuses, answersMs } = await generator.call(
      "run",
      loadOf(server.port, { events: 20 }),
    );
    const expected = Array.from(accepted, (_, number) => ([1, 2].includes(number % 5) ? 0 : 1));
    expect([...accepted]).toEqual(expected);
    expect(statuses["429"]).toBe(expected.filter((_, number) => number % 5 === 1).length);
    expect(statuses["error"]).toBe(expected.filter((_, number) => number % 5 === 2).length);
    expect(answersMs.filter(Number.isNaN)).toHaveLength(statuses["error"]!);
  });

  test("tells the events of a batch that were taken from those that were not", async () => {
    const answers = [
      '{"data":[{"id":"msg_1"},{"code":"validation"},{"id":"msg_3"}]}',
      '{"data":[{"id":"msg_4"},{"id":"msg_5"},{"id":"msg_6"}]}',
    ];
    using server = await listen(({ number, answer }) => {
      answer(202, answers[number / 3]);
    });
    const body = `[${Array<string>(3).fill(`"${emptyStamp}"`).join()}]`;
    const { accepted } = await generator.call(
      "run",
      loadOf(server.port, {
        request: { path: "/", headers: {}, body },
        pace: { kind: "closed", connections: 1 },
        events: 6,
      }),
    );
    expect([...accepted]).toEqual([1, 0, 1, 1, 1, 1]);
  });
});

describe("an open loop", () => {
  test("starts each request when it is due, whether others were answered or not, and counts from then", async () => {
    const held: Request[] = [];
    using server = await listen((request) => {
      held.push(request);
      // No answer before the last request has come.
      if (held.length === 40) for (const { answer } of held) answer(202);
    });
    const result = await generator.call(
      "run",
      loadOf(server.port, { pace: { kind: "open", requestsPerSecond: 1_000 }, seconds: 0.04 }),
    );
    expect(result.statuses).toEqual({ 202: 40 });
    const times = held.toSorted((a, b) => a.number - b.number).map(({ timeUs }) => timeUs);
    const first = times[0]!;
    // Within the microsecond to which the stamp is cut.
    expect(times.every((timeUs, index) => Math.abs(timeUs - first - index * 1_000) <= 1)).toBe(true);
    expect(result.lateness.count).toBe(40);
    // The first waited for all that were due after it.
    expect(result.answersMs[0]).toBeGreaterThanOrEqual(39);
  });
});
