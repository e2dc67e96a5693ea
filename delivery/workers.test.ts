import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, describe, expect, test, vi } from "vitest";

const command = join(import.meta.dirname, "../bin/hookplane.js");
const patience = { timeout: 30_000, interval: 50 };

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Running {
  readonly child: ChildProcess;
  readonly url: string;
  readonly log: string[];
  /** Process ids of its workers that are alive. */
  workers(): number[];
}

/** Starts a real `hookplane serve` with two workers. */
async function serve(dataDir: string): Promise<Running> {
  const args = [command, "serve", "--port", "0", "--data-dir", dataDir, "--workers", "2"];
  const child = spawn(process.execPath, [...args, "--allow-subnet", "127.0.0.0/8"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  cleanups.push(() => child.kill("SIGKILL"));
  const log: string[] = [];
  createInterface(child.stderr).on("line", (line) => log.push(line));
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const { pid, url } = JSON.parse(line) as { pid: number; url: string };
  return { child, url, log, workers: () => childrenOf(pid) };
}

function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    return [];
  }
}

async function openScene() {
  const dataDir = mkdtempSync(join(tmpdir(), "hookplane-workers-"));
  cleanups.push(() => {
    rmSync(dataDir, { recursive: true, force: true });
  });
  const arrivals = new Map<string, number>();
  let isHolding = false;
  const receiver = createServer((request, response) => {
    const id = String(request.headers["webhook-id"]);
    request.resume().on("end", () => {
      if (isHolding) return;
      arrivals.set(id, (arrivals.get(id) ?? 0) + 1);
      response.end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    receiver.closeAllConnections();
    receiver.close();
  });
  const service = await serve(dataDir);
  const { admin } = JSON.parse(readFileSync(join(dataDir, "credentials.json"), "utf8")) as {
    admin: { token: string };
  };
  const call = async (path: string, body: object): Promise<{ id: string }> => {
    const answer = await fetch(`${service.url}/api/v1${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${admin.token}` },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as { id: string };
  };
  await call("/app", { name: "Shop", uid: "shop" });
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
  const publish = async (number: number) =>
    (await call("/app/shop/msg", { eventType: "order.paid", payload: { number } })).id;
  return {
    dataDir,
    service,
    arrivals,
    publish,
    addEndpoint: () => call("/app/shop/endpoint", { url }),
    hold: (isOn: boolean) => {
      isHolding = isOn;
      if (!isOn) receiver.closeAllConnections();
    },
  };
}

describe.runIf(process.platform === "linux")("hookplane serve --workers 2", () => {
  test("an endpoint made through one worker gets what is published through the other", async () => {
    const { addEndpoint, publish, arrivals, service } = await openScene();
    expect(service.workers()).toHaveLength(2);
    await publish(0);
    await addEndpoint();
    // Each request may reach either worker; the second has read the application before it had an endpoint.
    const ids = await Promise.all(Array.from({ length: 20 }, (_, number) => publish(number)));
    await vi.waitFor(() => {
      expect([...arrivals.keys()].sort()).toEqual(ids.toSorted());
    }, patience);
    expect([...arrivals.values()].every((times) => times === 1)).toBe(true);
  });

  test("what a killed worker held is taken up by the one that replaces it, and nothing is lost", async () => {
    const { addEndpoint, publish, arrivals, service, hold } = await openScene();
    await addEndpoint();
    hold(true);
    const ids = await Promise.all(Array.from({ length: 60 }, (_, number) => publish(number)));
    const [first = 0, second = 0] = service.workers();
    hold(false);
    process.kill(first, "SIGKILL");
    await vi.waitFor(() => {
      expect([...arrivals.keys()].sort()).toEqual(ids.toSorted());
    }, patience);
    await vi.waitFor(() => {
      const alive = service.workers();
      expect(alive).toHaveLength(2);
      expect(alive).toContain(second);
      expect(alive).not.toContain(first);
    }, patience);
    expect(service.log.join("\n")).toContain("a worker ended and is replaced");
    expect(await publish(99)).toMatch(/^msg_/);
  });

  test("workers end with the process that started them, and the folder is free again", async () => {
    const { dataDir, service } = await openScene();
    const workers = service.workers();
    service.child.kill("SIGKILL");
    await vi.waitFor(() => {
      for (const pid of workers) expect(() => process.kill(pid, 0)).toThrow();
    }, patience);
    const next = await serve(dataDir);
    expect(next.workers()).toHaveLength(2);
  });

  test("a signal stops all of them in order", async () => {
    const { service } = await openScene();
    const workers = service.workers();
    service.child.kill("SIGTERM");
    const [code] = (await once(service.child, "exit")) as [number];
    expect(code).toBe(0);
    for (const pid of workers) expect(() => process.kill(pid, 0)).toThrow();
  });

  test("a port that is taken is told once, with its own exit code", async () => {
    const { service } = await openScene();
    const other = mkdtempSync(join(tmpdir(), "hookplane-workers-"));
    cleanups.push(() => {
      rmSync(other, { recursive: true, force: true });
    });
    const { port } = new URL(service.url);
    const child = spawn(
      process.execPath,
      [command, "serve", "--port", port, "--data-dir", other, "--workers", "2", "--log-level", "silent"],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    const lines: string[] = [];
    createInterface(child.stderr).on("line", (line) => lines.push(line));
    const [code] = (await once(child, "exit")) as [number];
    expect(code).toBe(3);
    expect(lines.map((line) => (JSON.parse(line) as { code: string }).code)).toEqual(["port_taken"]);
  });
});
