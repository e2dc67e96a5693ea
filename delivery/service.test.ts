import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { defaultConfig, type Config } from "./config.ts";
import { createLogger } from "./log.ts";
import { openService, type Service } from "./service.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeConfig(changes: Partial<Config> = {}): Config {
  const dataDir = mkdtempSync(join(tmpdir(), "hookplane-service-"));
  cleanups.push(() => {
    rmSync(dataDir, { recursive: true });
  });
  return { ...defaultConfig(), port: 0, dataDir, inbox: true, allowSubnets: ["127.0.0.0/8"], ...changes };
}

async function open(config: Config): Promise<Service> {
  const service = await openService(config, createLogger("silent"));
  cleanups.push(() => service.close());
  return service;
}

/** Calls the API as the administrator, and answers what came back. */
async function call(service: Service, method: string, path: string, body?: unknown) {
  const response = await fetch(service.url + path, {
    method,
    headers: {
      authorization: `Bearer ${service.credentials.admin.token}`,
      "content-type": "application/json",
    },
    body: body === undefined ? null : JSON.stringify(body),
  });
  return JSON.parse(await response.text());
}

describe("openService()", () => {
  test("listens, holds an application for each vendor account, and delivers", async () => {
    const service = await open(makeConfig());
    const { data } = await call(service, "GET", "/api/v1/app");
    expect(data.map((application: { uid: string }) => application.uid).sort()).toEqual([
      "casey",
      "pave",
      "twilio",
    ]);
    await call(service, "POST", "/api/v1/app", { name: "Shop", uid: "shop" });
    await call(service, "POST", "/api/v1/app/shop/endpoint", { url: `${service.url}/inbox/shop` });
    const { id } = await call(service, "POST", "/api/v1/app/shop/msg", {
      eventType: "a.b",
      payload: { n: 1 },
    });
    await expect
      .poll(async () => (await call(service, "GET", "/inbox/shop/requests")).data, { timeout: 10_000 })
      .toMatchObject([{ headers: { "webhook-id": id }, body: '{"n":1}', verified: true }]);
  });

  test("finds its accounts, its applications and its credentials again", async () => {
    const config = makeConfig();
    const first = await openService(config, createLogger("silent"));
    const before = await call(first, "GET", "/api/v1/app");
    await first.close();
    const second = await open(config);
    expect(second.credentials).toEqual(first.credentials);
    expect(await call(second, "GET", "/api/v1/app")).toEqual(before);
  });

  test("two in one folder: the second is told which folder is in use, and the first goes on", async () => {
    const config = makeConfig();
    const service = await open(config);
    await expect(openService(config, createLogger("silent"))).rejects.toMatchObject({
      code: "data_folder_in_use",
      exitCode: 4,
      message: expect.stringContaining(`"${config.dataDir}" is in use by another process`),
    });
    expect((await fetch(`${service.url}/readyz`)).status).toBe(200);
  });

  test("a port that is taken is named, and the data folder is free again", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => other.close());
    const { port } = other.address() as AddressInfo;
    const config = makeConfig({ port });
    await expect(openService(config, createLogger("silent"))).rejects.toMatchObject({
      code: "port_taken",
      exitCode: 3,
      message: expect.stringContaining(`The port ${port} of "127.0.0.1" is taken`),
    });
    await open({ ...config, port: 0 });
  });

  test("an address that is not this machine's is named", async () => {
    await expect(
      openService(makeConfig({ host: "192.0.2.1" }), createLogger("silent")),
    ).rejects.toMatchObject({
      code: "address_unusable",
      exitCode: 3,
      message: expect.stringContaining('"192.0.2.1" cannot be listened on (EADDRNOTAVAIL)'),
    });
  });

  test("listening everywhere, it tells an address that works here", async () => {
    const service = await open(makeConfig({ host: "0.0.0.0" }));
    expect(service.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect((await fetch(`${service.url}/healthz`)).status).toBe(200);
  });

  test("once it is closed, nothing listens there", async () => {
    const service = await openService(makeConfig(), createLogger("silent"));
    await service.close();
    await expect(fetch(`${service.url}/healthz`)).rejects.toThrow();
  });
});
