import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createSender, type Sender, type SenderOptions, type Sent } from "./send.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Receiver {
  readonly port: number;
  /** The connections that it has now. */
  readonly sockets: ReadonlySet<Socket>;
  /** How many it has had. */
  readonly made: () => number;
}

async function listen(server: Server): Promise<Receiver> {
  const sockets = new Set<Socket>();
  let made = 0;
  server.on("connection", (socket: Socket) => {
    made++;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets, made: () => made };
}

const openReceiver = (listener: RequestListener): Promise<Receiver> => listen(createHttpServer(listener));

/** A receiver that hears of each request by its number on the connection, and answers as it likes. */
async function openRawReceiver(answer: (socket: Socket, number: number) => void): Promise<Receiver> {
  return await listen(
    createServer((socket) => {
      let number = 0;
      let text = "";
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
        // Every request here ends so.
        while (text.includes('{"a":1}')) {
          text = text.slice(text.indexOf('{"a":1}') + 7);
          answer(socket, ++number);
        }
      });
    }),
  );
}

const ok = (text: string): string => `HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`;

function openSender(options: Partial<SenderOptions> = {}): Sender {
  const sender = createSender({
    allowSubnets: ["127.0.0.0/8"],
    userAgent: "Hookplane/1.2.3",
    resolve: async () => [{ address: "127.0.0.1", family: 4 }],
    now: Date.now,
    ...options,
  });
  cleanups.push(() => sender.close());
  return sender;
}

async function send(sender: Sender, url: string, timeoutMs = 15_000): Promise<Sent> {
  const body = new TextEncoder().encode('{"a":1}');
  return await sender.send({ method: "POST", url, headers: {}, body }, { timeoutMs });
}

const bodiesOf = (sent: readonly Sent[]): string[] => sent.map(({ body }) => body);
const times = <T>(count: number, make: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => make(n));

describe("the connections of an origin", () => {
  test("are no more than the limit; what finds none waits and goes on", async () => {
    let running = 0;
    let most = 0;
    const { port, made } = await openReceiver((_request, response) => {
      most = Math.max(most, ++running);
      setTimeout(() => {
        running--;
        response.end("ok");
      }, 10);
    });
    const sender = openSender({ connections: 3 });
    const sent = await Promise.all(times(20, () => send(sender, `http://hooks.example:${port}/`)));
    expect(bodiesOf(sent)).toEqual(times(20, () => "ok"));
    expect([most, made()]).toEqual([3, 3]);
  });

  test("serve who waits in order", async () => {
    const seen: string[] = [];
    const { port } = await openReceiver((request, response) => {
      seen.push(request.url ?? "");
      response.end();
    });
    const sender = openSender({ connections: 1 });
    await Promise.all(times(5, (n) => send(sender, `http://hooks.example:${port}/${n}`)));
    expect(seen).toEqual(["/0", "/1", "/2", "/3", "/4"]);
  });

  test("let wait only so many, and tell the others", async () => {
    const { port } = await openReceiver(() => undefined);
    const sender = openSender({ connections: 1, maxWaitingRequests: 8 });
    const sent = await Promise.all(times(10, () => send(sender, `http://hooks.example:${port}/`, 300)));
    const bodies = bodiesOf(sent);
    expect(bodies[0]).toBe("no complete answer within 0.3 s");
    // One of those that wait may get the connection in the moment in which its own time ends.
    for (const body of bodies.slice(1, 9)) {
      expect(body).toMatch(
        /^no (?:connection|connection to the receiver came free|complete answer) within 0.3 s$/,
      );
    }
    expect(bodies[9]).toBe(
      `not sent: all 1 connections to "http://hooks.example:${port}" are in use and 8 requests wait for one`,
    );
  });

  test("are closed when their time is over, and others take their place", async () => {
    let hangs = true;
    const { port, sockets } = await openReceiver((_request, response) => {
      if (!hangs) response.end("ok");
    });
    const sender = openSender({ connections: 2 });
    const url = `http://hooks.example:${port}/`;
    await Promise.all(times(6, () => send(sender, url, 100)));
    await vi.waitFor(() => {
      expect(sockets.size).toBe(0);
    }, 10_000);
    hangs = false;
    expect((await send(sender, url)).body).toBe("ok");
  });

  test("are not those of another, however it hangs", async () => {
    const hanging = await openReceiver(() => undefined);
    const healthy = await openReceiver((_request, response) => response.end("ok"));
    const sender = openSender({ connections: 4 });
    const lost = times(30, () => send(sender, `http://hanging.example:${hanging.port}/`, 60_000));
    const sent = await Promise.all(times(50, () => send(sender, `http://healthy.example:${healthy.port}/`)));
    expect(bodiesOf(sent)).toEqual(times(50, () => "ok"));
    await sender.close();
    expect(bodiesOf(await Promise.all(lost))).toEqual(times(30, () => "the service is stopping"));
  });

  test("are its own, where two names lead to one address", async () => {
    const { port, made } = await openReceiver((_request, response) => response.end("ok"));
    const sender = openSender();
    for (const host of ["a.example", "b.example", "a.example", "b.example"]) {
      await send(sender, `http://${host}:${port}/`);
    }
    expect(made()).toBe(2);
  });

  test("are made anew when one could not be", async () => {
    const addresses = ["127.0.0.1"];
    const { port } = await openReceiver((_request, response) => response.end("ok"));
    let fails = true;
    const resolve: SenderOptions["resolve"] = async () => {
      if (fails) throw new Error("getaddrinfo ENOTFOUND");
      return addresses.map((address) => ({ address, family: 4 }));
    };
    const sender = openSender({ resolve });
    expect((await send(sender, `http://hooks.example:${port}/`)).body).toBe("getaddrinfo ENOTFOUND");
    fails = false;
    await vi.waitFor(async () => {
      expect((await send(sender, `http://hooks.example:${port}/`)).body).toBe("ok");
    }, 10_000);
  });
});

describe("kept connections", () => {
  test("are closed after a while, and so is the last trace of their origin", async () => {
    const { port, sockets } = await openReceiver((_request, response) => response.end("ok"));
    const sender = openSender();
    await Promise.all(times(10, (n) => send(sender, `http://h${n}.example:${port}/`)));
    expect(sockets.size).toBe(10);
    await vi.waitFor(() => {
      expect(sockets.size).toBe(0);
    }, 15_000);
  });

  test("of many origins are no more than the limit: 10,000 origins leave no sockets behind", async () => {
    let most = 0;
    const { port, sockets } = await openReceiver((_request, response) => {
      most = Math.max(most, sockets.size);
      response.end("ok");
    });
    const sender = openSender({ maxIdleConnections: 50 });
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < 10_000) {
        const { body } = await send(sender, `http://h${next++}.example:${port}/`);
        expect(body).toBe("ok");
      }
    };
    await Promise.all(times(20, lane));
    // Those kept, those in use, and those whose end has not come through yet.
    expect(most).toBeLessThan(500);
    await vi.waitFor(() => {
      expect(sockets.size).toBeLessThanOrEqual(50);
    }, 10_000);
  }, 60_000);

  test("are kept as long as the receiver says, but for a moment less", async () => {
    const { port, made } = await openReceiver((_request, response) => {
      response.setHeader("keep-alive", "timeout=1").end("ok");
    });
    const sender = openSender();
    for (let n = 0; n < 3; n++) await send(sender, `http://hooks.example:${port}/`);
    expect(made()).toBe(3);
  });

  test("that the receiver closes meanwhile are not used", async () => {
    const { port, sockets, made } = await openReceiver((_request, response) => response.end("ok"));
    const sender = openSender();
    const url = `http://hooks.example:${port}/`;
    await Promise.all(times(3, () => send(sender, url)));
    for (const socket of sockets) socket.end();
    await vi.waitFor(() => {
      expect(sockets.size).toBe(0);
    }, 10_000);
    expect((await send(sender, url)).body).toBe("ok");
    expect(made()).toBe(4);
  });

  test("on which something came that nobody asked for are not used", async () => {
    const { port, made } = await openRawReceiver((socket, number) => {
      socket.write(ok(`right ${number}`));
      setTimeout(() => socket.write(ok("forged")), 5);
    });
    const sender = openSender();
    const url = `http://hooks.example:${port}/`;
    for (let n = 0; n < 3; n++) {
      expect((await send(sender, url)).body).toBe("right 1");
      await sleep(50);
    }
    expect(made()).toBe(3);
  });

  test("with more behind the answer are not used", async () => {
    const { port, made } = await openRawReceiver((socket, number) => {
      socket.write(ok(`right ${number}`) + ok("forged"));
    });
    const sender = openSender();
    for (let n = 0; n < 3; n++)
      expect((await send(sender, `http://hooks.example:${port}/`)).body).toBe("right 1");
    expect(made()).toBe(3);
  });
});

describe("a kept connection that its receiver closes just when a request is sent", () => {
  test.each([
    ["with an end", (socket: Socket): unknown => socket.end()],
    ["with a reset", (socket: Socket): unknown => socket.resetAndDestroy()],
  ])("%s costs no attempt: the request goes once more, over a new one", async (_name, close) => {
    const { port, made } = await openRawReceiver((socket, number) => {
      if (number === 1) socket.write(ok("ok"));
      else close(socket);
    });
    const sender = openSender();
    const url = `http://hooks.example:${port}/`;
    for (let n = 0; n < 3; n++) expect((await send(sender, url)).body).toBe("ok");
    expect(made()).toBe(3);
  });

  test("all others that were kept are closed as well: the new one is", async () => {
    const { port } = await openRawReceiver((socket, number) => {
      if (number === 1) socket.write(ok("ok"));
      else socket.resetAndDestroy();
    });
    const sender = openSender();
    const url = `http://hooks.example:${port}/`;
    await Promise.all(times(10, () => send(sender, url)));
    expect(bodiesOf(await Promise.all(times(10, () => send(sender, url))))).toEqual(times(10, () => "ok"));
  });

  test("a new one that is closed is told: nothing goes a third time", async () => {
    let requests = 0;
    const { port } = await openRawReceiver((socket) => {
      requests++;
      if (requests === 1) socket.write(ok("ok"));
      else socket.end();
    });
    const sender = openSender();
    const url = `http://hooks.example:${port}/`;
    expect((await send(sender, url)).body).toBe("ok");
    expect((await send(sender, url)).body).toBe("the connection was closed before an answer came");
    expect(requests).toBe(3);
    // The first request of a connection goes once.
    expect((await send(sender, url)).body).toBe("the connection was closed before an answer came");
    expect(requests).toBe(4);
  });

  test("in the middle of an answer is a failure", async () => {
    let requests = 0;
    const { port } = await openRawReceiver((socket, number) => {
      requests++;
      if (number === 1) socket.write(ok("ok"));
      else socket.end("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    });
    const sender = openSender();
    const url = `http://hooks.example:${port}/`;
    await send(sender, url);
    expect((await send(sender, url)).body).toBe("the connection was closed before the answer was complete");
    expect(requests).toBe(2);
  });
});

test("an answer before the request was read whole counts, and the next request goes another way", async () => {
  const server = createServer((socket) => {
    socket
      .on("error", () => undefined)
      .once("data", () => {
        socket.pause();
        socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig");
      });
  });
  const { port, sockets, made } = await listen(server);
  const sender = openSender();
  const body = new Uint8Array(64 * 1024 * 1024);
  const url = `http://hooks.example:${port}/`;
  for (let n = 0; n < 2; n++) {
    const sent = await sender.send({ method: "POST", url, headers: {}, body }, { timeoutMs: 15_000 });
    expect(sent).toMatchObject({ answer: { kind: "response", status: 413 }, body: "big" });
  }
  expect(made()).toBe(2);
  // The rest of the requests is not sent for ever.
  await sleep(2_500);
  for (const socket of sockets) socket.resume();
  await vi.waitFor(() => {
    expect(sockets.size).toBe(0);
  }, 3_000);
});

test("an answer before the request was read whole leaves the connection to others, once it is", async () => {
  const body = new Uint8Array(8 * 1024 * 1024);
  let received = 0;
  const server = createServer((socket) => {
    socket
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => {
        // The first piece of each of the two requests.
        if (received === 0 || received > body.length) socket.write(ok("early"));
        received += chunk.length;
      });
  });
  const { port, made } = await listen(server);
  const sender = openSender();
  const url = `http://hooks.example:${port}/`;
  const sent = await sender.send({ method: "POST", url, headers: {}, body }, { timeoutMs: 15_000 });
  expect(sent.body).toBe("early");
  await vi.waitFor(() => {
    expect(received).toBeGreaterThan(body.length);
  }, 10_000);
  await sleep(100);
  expect((await send(sender, url)).body).toBe("early");
  expect(made()).toBe(1);
});

test("close() cuts off what waits, what is being connected and what runs", async () => {
  const { port, sockets } = await openReceiver(() => undefined);
  const sender = openSender({
    connections: 1,
    resolve: (hostname) =>
      hostname === "unknown.example"
        ? new Promise(() => undefined)
        : Promise.resolve([{ address: "127.0.0.1", family: 4 }]),
  });
  const sending = [
    send(sender, `http://hooks.example:${port}/`),
    send(sender, `http://hooks.example:${port}/`),
    send(sender, "http://unknown.example/"),
  ];
  await vi.waitFor(() => {
    expect(sockets.size).toBe(1);
  }, 10_000);
  const late = send(sender, `http://hooks.example:${port}/`);
  await sender.close();
  expect(bodiesOf(await Promise.all([...sending, late]))).toEqual(times(4, () => "the service is stopping"));
  expect((await send(sender, `http://hooks.example:${port}/`)).body).toBe(
    "not sent: the service is stopping",
  );
  await vi.waitFor(() => {
    expect(sockets.size).toBe(0);
  }, 10_000);
});

test("a name that nobody answers for holds up no other", async () => {
  const { port } = await openReceiver((_request, response) => response.end("ok"));
  const asked: string[] = [];
  const sender = openSender({
    resolve: (hostname) => {
      asked.push(hostname);
      return hostname.startsWith("silent")
        ? new Promise(() => undefined)
        : Promise.resolve([{ address: "127.0.0.1", family: 4 }]);
    },
  });
  const silent = times(20, () => send(sender, `http://silent.example:${port}/`, 200));
  expect((await send(sender, `http://hooks.example:${port}/`)).body).toBe("ok");
  expect(bodiesOf(await Promise.all(silent))).toEqual(times(20, () => "no connection within 0.2 s"));
  // And takes the resolver once, not twenty times.
  expect(asked).toEqual(["silent.example", "hooks.example"]);
});
