import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, test } from "vitest";
import * as hookplane from "./index.ts";

interface Registered {
  readonly type: string;
  readonly name: string;
  readonly id?: string;
  readonly inputs: Readonly<Record<string, unknown>>;
}

const registered: Registered[] = [];

async function setMocks(preview = false): Promise<void> {
  registered.length = 0;
  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, id, inputs }) => {
        registered.push({ type, name, id, inputs: inputs as Record<string, unknown> });
        return { id: id || `${name}-id`, state: { ...(inputs as object), account: "the account" } };
      },
      call: () => ({}),
    },
    "project",
    "stack",
    preview,
  );
}

/** The value that an output resolves to, and whether it is a secret. */
async function valueOf<T>(output: pulumi.Output<T>): Promise<{ value: T; isSecret: boolean }> {
  const value = await new Promise<T>((resolve) => {
    pulumi.output(output).apply((resolved) => {
      resolve(resolved as T);
    });
  });
  return { value, isSecret: await pulumi.isSecret(output) };
}

const connection = { username: "acme", apiKey: "key-1234", apiSecret: "secret-1234" };

describe("a program that declares a callback", () => {
  beforeEach(() => setMocks());

  test("registers its inputs and a constant provider, nothing of the program", async () => {
    const url = pulumi.output("https://example.com/hooks");
    const done = new hookplane.pave.Callback("done", {
      event: "SESSION:COMPLETE",
      url,
      headers: { Authorization: pulumi.interpolate`Bearer ${"token"}` },
      payload: { source: url, deep: [1, { a: true }] },
      connection,
    });
    expect((await valueOf(done.id)).value).toBe("done-id");
    expect(registered).toMatchObject([
      {
        type: "pulumi-nodejs:dynamic/pave:Callback",
        name: "done",
        inputs: {
          event: "SESSION:COMPLETE",
          url: "https://example.com/hooks",
          payload: { source: "https://example.com/hooks", deep: [1, { a: true }] },
          __provider: 'exports.handler=()=>require("hookplane/dynamic").provider("pave:Callback")',
        },
      },
    ]);
    expect((await valueOf(done.account)).value).toBe("the account");
  });

  test("has its secret inputs as secrets, whether the program marks them or not", async () => {
    const done = new hookplane.pave.Callback("done", {
      event: "SESSION:COMPLETE",
      url: "https://example.com/hooks",
      headers: { Authorization: "Bearer token" },
      connection,
    });
    expect(await valueOf(done.headers)).toEqual({ value: { Authorization: "Bearer token" }, isSecret: true });
    expect((await valueOf(done.connection)).isSecret).toBe(true);
    expect((await valueOf(done.url)).isSecret).toBe(false);
  });

  test("gets an existing one by its id, in an account of its own", async () => {
    const found = hookplane.pave.Callback.get("found", "SESSION:COMPLETE", { connection });
    expect((await valueOf(found.id)).value).toBe("SESSION:COMPLETE");
    expect(registered[0]).toMatchObject({ id: "SESSION:COMPLETE", name: "found" });
    expect(registered[0]?.inputs).not.toHaveProperty("event");
  });
});

test("every class registers the type that the provider knows, and none needs more than its required inputs", async () => {
  await setMocks();
  const connectionOf = { accountSid: "AC1", authToken: "token" };
  const twilio = new hookplane.twilio.ConversationsWebhook("t", { connection: connectionOf });
  const casey = new hookplane.casey.WebhookEndpoint("c", { url: "https://example.com" });
  await Promise.all([valueOf(twilio.urn), valueOf(casey.urn)]);
  expect(registered.map(({ type }) => type).sort()).toEqual([
    "pulumi-nodejs:dynamic/casey:WebhookEndpoint",
    "pulumi-nodejs:dynamic/twilio:ConversationsWebhook",
  ]);
});
