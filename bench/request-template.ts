import { writeDigits } from "./http-messages.ts";
import { emptyStamp, writeStamp } from "./stamp.ts";

/** Stands for the number of an application or endpoint in a path or body, in five digits: `bench-#####`. */
const targetSlot = "#####";

/** A request, ready but for the stamps of its events and the number of its target. */
export interface RequestText {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A request as bytes, filled in anew for each use. One buffer per connection: what is being sent must not change. */
export class RequestTemplate {
  readonly bytes: Buffer;
  /** How many events the request carries. */
  readonly events: number;
  readonly #stamps: readonly number[];
  readonly #targets: readonly number[];

  constructor({ path, headers, body }: RequestText) {
    const lines = Object.entries({
      host: "127.0.0.1",
      ...headers,
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(body)),
    }).map(([name, value]) => `${name}: ${value}\r\n`);
    this.bytes = Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body}`);
    this.#stamps = positionsOf(this.bytes, emptyStamp);
    this.#targets = positionsOf(this.bytes, targetSlot);
    this.events = this.#stamps.length;
  }

  /** Numbers its events from `firstNumber` on. */
  fill(firstNumber: number, timeUs: number, target: number): void {
    for (const position of this.#targets) writeDigits(this.bytes, position, targetSlot.length, target);
    let number = firstNumber;
    for (const position of this.#stamps) writeStamp(this.bytes, position, number++, timeUs);
  }
}

/** The name of target `number` as the template fills it in. */
export function targetName(number: number): string {
  return String(number).padStart(targetSlot.length, "0");
}

/**
 * A payload as publishers have it, of exactly `bytes` bytes of JSON: an order with some lines, the event's stamp first.
 */
export function eventPayload(bytes: number): string {
  const order = {
    stamp: emptyStamp,
    order: "ord_2Zk8Qx",
    currency: "EUR",
    total: 129.9,
    paid: true,
    customer: { id: "cus_91fLm", name: "Zoë Example", email: "zoe@example.com", address: null },
    lines: [
      { sku: "A-1001", quantity: 2, price: 19.95, title: "Mug, “blue”" },
      { sku: "B-2002", quantity: 1, price: 90, title: "Kettle\n1.5 l" },
    ],
    note: "",
  };
  const missing = bytes - Buffer.byteLength(JSON.stringify(order));
  if (missing < 0)
    throw new Error(`An event of ${bytes} bytes is too small: take at least ${bytes - missing}`);
  return JSON.stringify({ ...order, note: "words and ".repeat(missing).slice(0, missing) });
}

/** A text of an event of `bytes` bytes, its stamp first. */
export function eventText(bytes: number): string {
  return `${emptyStamp} ${"words and ".repeat(bytes)}`.slice(0, bytes);
}

function positionsOf(bytes: Buffer, text: string): number[] {
  const positions = [];
  for (let at = bytes.indexOf(text); at !== -1; at = bytes.indexOf(text, at + text.length))
    positions.push(at);
  return positions;
}
