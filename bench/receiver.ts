// The receiver of deliveries: a process of its own that answers from raw sockets and notes what came when.
import { createServer, type AddressInfo, type Socket } from "node:net";
import { serveParent } from "./child.ts";
import { nowUs } from "./clock.ts";
import { HttpMessages } from "./http-messages.ts";
import { Ledger } from "./ledger.ts";
import { findStamp, stampNumber, stampTimeUs } from "./stamp.ts";
import type { Latency } from "./statistics.ts";

/** How a request is treated, by the first part of its path: `/fast`, `/delay/<ms>`, `/hang` or `/gate`. */
type Treatment =
  { readonly kind: "fast" | "hang" | "gate" } | { readonly kind: "delay"; readonly ms: number };

/** What has arrived since `begin`. */
export interface Received {
  /** By event: how often it arrived. */
  readonly times: Uint8Array;
  readonly latency: Latency;
  /** When the last one arrived, in microseconds of the shared clock. */
  readonly lastAtUs: number;
  /** Arrivals of events of earlier measurements. */
  readonly stray: number;
  /** By event: how long the answer was held back, to the moment it was written; NaN where it was not. */
  readonly holdsMs: Float64Array;
}

const answer = Buffer.from(
  "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
);

let ledger = new Ledger(0);
let firstNumber = 0;
let holdsMs: number[] = [];
let isGateOpen = true;
let requests = 0;
/** Connections with a request that is not answered. */
const held = new Set<Socket>();

const server = createServer({ noDelay: true }, (socket) => {
  const messages = new HttpMessages((bytes, start, bodyStart, end) => {
    const atUs = nowUs();
    requests++;
    const treatment = treatmentOf(bytes, start);
    if (treatment.kind === "hang" || (treatment.kind === "gate" && !isGateOpen)) {
      if (treatment.kind === "gate") held.add(socket);
      return;
    }
    const stamp = findStamp(bytes, bodyStart, end);
    const number = stamp === -1 ? -1 : stampNumber(bytes, stamp);
    if (stamp !== -1) ledger.receive(number, stampTimeUs(bytes, stamp), atUs);
    if (treatment.kind !== "delay") {
      socket.write(answer);
      return;
    }
    setTimeout(() => {
      socket.write(answer);
      holdsMs[number - firstNumber] = (nowUs() - atUs) / 1e3;
    }, treatment.ms);
  });
  socket.on("data", (chunk) => {
    messages.push(chunk);
  });
  socket.on("error", () => socket.destroy());
  socket.on("close", () => held.delete(socket));
});

function treatmentOf(bytes: Buffer, start: number): Treatment {
  // Behind "POST /".
  switch (bytes[start + 6]) {
    case 0x66:
      return { kind: "fast" };
    case 0x68:
      return { kind: "hang" };
    case 0x67:
      return { kind: "gate" };
    default: {
      const [, ms] = /^\S+ \/delay\/(\d+)/.exec(bytes.toString("latin1", start, start + 32)) ?? [];
      if (ms === undefined) throw new Error("The receiver knows /fast, /delay/<ms>, /hang and /gate");
      return { kind: "delay", ms: Number(ms) };
    }
  }
}

/** What the receiver's process does. */
const methods = {
  /** Listens on every address of this machine, 127.0.0.0/8 included, so that there can be many origins. */
  listen: async (): Promise<number> => {
    await new Promise<void>((resolve) => server.listen({ port: 0, host: "0.0.0.0", backlog: 4096 }, resolve));
    return (server.address() as AddressInfo).port;
  },
  /** Begins a new account with the event of this number. */
  begin: (first: number): void => {
    ledger = new Ledger(first);
    firstNumber = first;
    holdsMs = [];
    requests = 0;
  },
  /** A closed gate answers nothing; as it opens, what was held is cut off, as when a receiver is started anew. */
  gate: (isOpen: boolean): void => {
    isGateOpen = isOpen;
    if (!isOpen) return;
    for (const socket of held) socket.destroy();
    held.clear();
  },
  progress: (): { distinct: number; requests: number } => ({ distinct: ledger.distinct, requests }),
  end: (): Received => ({
    times: ledger.times,
    latency: ledger.latency(),
    lastAtUs: ledger.lastAtUs,
    stray: ledger.stray,
    holdsMs: Float64Array.from(holdsMs, (value) => (value as number | undefined) ?? Number.NaN),
  }),
};
export type ReceiverMethods = typeof methods;

if (import.meta.main) serveParent(methods);
