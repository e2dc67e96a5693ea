import { execFile } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openStack } from "./stack.ts";

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, "..", "..");
const scope = new AsyncDisposableStack();
let folder: string;

/** Without what a run inside of the checkout tells npm and Node. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_PATH$|NODE_OPTIONS$|VITEST)/i.test(name)),
);

beforeAll(async () => {
  // Outside of the checkout, where nothing but what was installed can be found.
  folder = await fs.mkdtemp(path.join(os.tmpdir(), "hookplane-package-"));
  scope.defer(() => fs.rm(folder, { recursive: true, force: true }));
  const pack = ["pack", "--json", "--pack-destination", folder];
  const { stdout } = await run("npm", pack, { cwd: root, env: environment });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("["))) as [{ filename: string }];
  await fs.writeFile(path.join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const packages = [path.join(folder, filename), "@pulumi/pulumi@3.270.0"];
  const install = ["install", "--no-audit", "--no-fund", "--prefer-offline", ...packages];
  await run("npm", install, { cwd: folder, env: environment });
});
afterAll(() => scope.disposeAsync());

const npx = (...args: string[]) =>
  run("npx", ["--no-install", "hookplane", ...args], { cwd: folder, env: environment });

test("the package holds what runs, and no sources or tests", async () => {
  const files = await fs.readdir(path.join(folder, "node_modules", "hookplane"), { recursive: true });
  expect(files).toEqual(expect.arrayContaining(["LICENSE", "README.md", "package.json", "bin/hookplane.js"]));
  const own = files.filter((file) => !file.startsWith("node_modules"));
  expect(own.filter((file) => /\.(test|suite)\.|(?<!\.d)\.ts$/.test(file))).toEqual([]);
});

test("npx hookplane tells its version and serves", async () => {
  const { version } = JSON.parse(await fs.readFile(path.join(root, "package.json"), "utf8")) as {
    version: string;
  };
  expect((await npx("--version")).stdout.trim()).toBe(version);

  const serve = execFile(
    "npx",
    ["--no-install", "hookplane", "serve", "--port", "0", "--data-dir", "served"],
    {
      cwd: folder,
      env: environment,
    },
  );
  const ended = new Promise((resolve) => serve.once("exit", resolve));
  const line = await new Promise<string>((resolve) => serve.stdout?.once("data", resolve));
  const { url, pid } = JSON.parse(line) as { url: string; pid: number };
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  process.kill(pid, "SIGTERM");
  await ended;
  await expect(fetch(`${url}/healthz`)).rejects.toThrow();
});

test.each([
  ["compiled by Pulumi", true],
  ["run by Node as it is", false],
])(
  "a TypeScript program, %s, deploys the service with a callback in it, and removes both",
  async (_how, compiled) => {
    await using stack = await openStack("package", { parent: folder, compiled });
    await stack.program(`
    const service = new hookplane.DeliveryService("service", {
      dataDir: ${JSON.stringify(path.join(stack.directory, "data"))},
      inbox: true,
      allowSubnets: ["127.0.0.0/8"],
    });
    const callback = new hookplane.pave.Callback("done", {
      event: "SESSION:COMPLETE",
      url: pulumi.interpolate\`\${service.inboxUrl}/done\`,
      connection: service.connections.pave,
    });
    export const url = service.url;
    export const method = callback.method;
  `);
    const up = await stack.up();
    expect(up, up.output).toMatchObject({ ok: true, steps: { service: "create", done: "create" } });
    const { url, method } = await stack.outputs<{ url: string; method: string }>();
    expect(method).toBe("POST");
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const preview = await stack.preview();
    expect(preview, preview.output).toMatchObject({ ok: true, steps: {} });

    const destroy = await stack.destroy();
    expect(destroy.ok, destroy.output).toBe(true);
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
  },
);
