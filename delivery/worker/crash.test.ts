import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, describe, expect, test, vi } from "vitest";

const command = join(import.meta.dirname, "../../bin/hookplane.js");

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Running {
  readonly child: ChildProcess;
  readonly url: string;
}

/** Starts a real `hookplane serve`, optionally through a shell that sets limits first. */
async function serve(dataDir: string, limits = ""): Promise<Running> {
  const child = spawn(
    "sh",
    [
      "-c",
      `${limits} exec "$@"`,
      "sh",
      process.execPath,
      command,
      "serve",
      "--port",
      "0",
      "--data-dir",
      dataDir,
    ].concat(["--allow-subnet", "127.0.0.0/8", "--log-level", "silent"]),
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  cleanups.push(() => child.kill("SIGKILL"));
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  return { child, url: (JSON.parse(line) as { url: string }).url };
}

async function kill({ child }: Running): Promise<void> {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

async function openScene() {
  const dataDir = mkdtempSync(join(tmpdir(), "hookplane-crash-"));
  const arrivals = new Map<string, number>();
  const receiver = createServer((request, response) => {
    const id = String(request.headers["webhook-id"]);
    arrivals.set(id, (arrivals.get(id) ?? 0) + 1);
    request.resume().on("end", () => response.end());
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    receiver.closeAllConnections();
    receiver.close();
    rmSync(dataDir, { recursive: true });
  });
  const hookUrl = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
  const call = async (
    service: Running,
    path: string,
    body: unknown,
  ): Promise<{ status: number; id: string }> => {
    const credentials = JSON.parse(readFileSync(join(dataDir, "credentials.json"), "utf8"));
    const response = await fetch(`${service.url}/api/v1${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${credentials.admin.token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const { id } = (await response.json()) as { id: string };
    return { status: response.status, id };
  };
  const prepare = async (service: Running): Promise<void> => {
    await call(service, "/app", { name: "Shop", uid: "shop" });
    await call(service, "/app/shop/endpoint", { url: hookUrl });
  };
  return { dataDir, arrivals, call, prepare };
}

describe("hookplane serve, killed", () => {
  // Six starts of a process, on a machine that may be busy.
  test("delivers every event that it acknowledged, under one id each", { timeout: 90_000 }, async () => {
    const { dataDir, arrivals, call, prepare } = await openScene();
    const acknowledged = new Set<string>();
    let service = await serve(dataDir);
    await prepare(service);
    for (let round = 0; round < 5; round++) {
      const victim = service;
      let isAlive = true;
      const publishers = Array.from({ length: 16 }, async () => {
        while (isAlive) {
          try {
            const { status, id } = await call(victim, "/app/shop/msg", {
              eventType: "order.paid",
              payload: {},
            });
            if (status === 202) acknowledged.add(id);
          } catch {
            // The service died under it: the event was not acknowledged.
            isAlive = false;
          }
        }
      });
      // At any instant, once it is busy.
      const enough = acknowledged.size + 10;
      while (acknowledged.size < enough) await new Promise(setImmediate);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
      await kill(victim);
      await Promise.all(publishers);
      service = await serve(dataDir);
    }
    await vi.waitFor(
      () => {
        expect([...acknowledged].filter((id) => !arrivals.has(id))).toEqual([]);
      },
      { timeout: 15_000 },
    );
    // Sent twice is only what was under way when the process died: for a killing, a lane's worth or less at a time.
    const repeated = [...arrivals.values()].filter((times) => times > 1).length;
    expect(repeated).toBeLessThanOrEqual(5 * 64);
  });
});

describe("hookplane serve on a full disk", () => {
  test("answers 503, stays up, and has lost nothing that it acknowledged", { timeout: 60_000 }, async () => {
    const { dataDir, arrivals, call, prepare } = await openScene();
    // No file grows beyond this many blocks of 512 bytes; writing on is an error and not a signal.
    const full = await serve(dataDir, "trap '' XFSZ; ulimit -f 2000;");
    await prepare(full);
    const acknowledged: string[] = [];
    const payload = { text: "x".repeat(20_000) };
    let status = 202;
    while (status === 202) {
      const answer = await call(full, "/app/shop/msg", { eventType: "order.paid", payload });
      status = answer.status;
      if (status === 202) acknowledged.push(answer.id);
      expect(acknowledged.length).toBeLessThan(1_000);
    }
    expect(status).toBe(503);
    expect((await fetch(`${full.url}/healthz`)).status).toBe(200);
    await kill(full);

    await serve(dataDir);
    expect(acknowledged.length).toBeGreaterThan(5);
    await vi.waitFor(
      () => {
        expect(acknowledged.filter((id) => !arrivals.has(id))).toEqual([]);
      },
      { timeout: 15_000 },
    );
  });
});
