// A thread that says when the next requests of an open loop are due. Timers of the event loop are late by up to a
// millisecond and more; a wait on an atomic is late by the kernel's timer slack, some 50 microseconds.
import { parentPort, workerData } from "node:worker_threads";
import { nowUs } from "./clock.ts";

/** When the beats are, and the cell whose change ends them. */
export interface Beats {
  readonly startUs: number;
  readonly intervalUs: number;
  readonly stop: Int32Array<SharedArrayBuffer>;
}

const { startUs, intervalUs, stop } = workerData as Beats;
for (let beat = 0; ; beat += 1) {
  const waitMs = (startUs + beat * intervalUs - nowUs()) / 1e3;
  if (waitMs > 0) Atomics.wait(stop, 0, 0, waitMs);
  if (Atomics.load(stop, 0) !== 0) break;
  parentPort!.postMessage(null);
}
