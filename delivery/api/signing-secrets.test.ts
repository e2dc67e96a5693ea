import { createPublicKey, verify } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createSigningSecret } from "../core/standard-webhooks.ts";
import { eventually, startReceiver, startService, type Receiver, type TestService } from "./service.suite.ts";

// The key pair of the vector that Svix's server tests itself with.
const privateKey =
  "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const publicKey = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";

let service: TestService;
let receiver: Receiver;
beforeAll(async () => {
  [service, receiver] = await Promise.all([
    startService({ defaultSignatureType: "ed25519", signatureHeaders: "webhook" }),
    startReceiver(),
  ]);
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await receiver[Symbol.asyncDispose]();
});
beforeEach(async ({ task }) => {
  receiver.requests.length = 0;
  await service.svix.application.create({ name: "a", uid: task.id });
});

/** Publishes an event, and answers the request that the receiver gets. */
async function deliver(application: string) {
  await service.svix.message.create(application, { eventType: "order.paid", payload: { n: 1 } });
  await eventually(() => {
    expect(receiver.requests).toHaveLength(1);
  });
  const [request] = receiver.requests as [Receiver["requests"][number]];
  return { body: request.body, headers: request.headers as Record<string, string> };
}

/** What a receiver does that knows the public key alone: the steps of the specification, with Node's own ed25519. */
function isSignedBy(key: string, { headers, body }: { headers: Record<string, string>; body: string }) {
  const x = Buffer.from(key.slice("whpk_".length), "base64").toString("base64url");
  const ed25519 = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const content = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
  return String(headers["webhook-signature"])
    .split(" ")
    .filter((entry) => entry.startsWith("v1a,"))
    .some((entry) => verify(null, content, ed25519, Buffer.from(entry.slice(4), "base64")));
}

describe("signing secrets", () => {
  test("generated as the operator asks: the public key is shown, and it verifies a delivery", async ({
    task,
  }) => {
    const { id } = await service.svix.endpoint.create(task.id, { url: receiver.url });
    const { key } = await service.svix.endpoint.getSecret(task.id, id);
    expect(key).toMatch(/^whpk_[A-Za-z0-9+/]{43}=$/);
    const request = await deliver(task.id);
    expect(isSignedBy(key, request)).toBe(true);
    expect(isSignedBy(publicKey, request)).toBe(false);
    expect(isSignedBy(key, { ...request, body: '{"n":2}' })).toBe(false);
  });

  test.each([
    ["with its public key behind it", privateKey],
    [
      "as the bare seed",
      `whsk_${Buffer.from(privateKey.slice(5), "base64").subarray(0, 32).toString("base64")}`,
    ],
  ])("an ed25519 key may be given %s", async (_, secret) => {
    const { id: application } = await service.svix.application.create({ name: "given" });
    const { id } = await service.svix.endpoint.create(application, { url: receiver.url, secret });
    expect(await service.svix.endpoint.getSecret(application, id)).toEqual({ key: publicKey });
    expect(isSignedBy(publicKey, await deliver(application))).toBe(true);
  });

  test("rotate from one type to the other: within the overlap both sign", async ({ task }) => {
    const old = createSigningSecret();
    const { id } = await service.svix.endpoint.create(task.id, { url: receiver.url, secret: old });
    await service.svix.endpoint.rotateSecret(task.id, id, { key: privateKey });
    const { headers, body } = await deliver(task.id);
    expect(isSignedBy(publicKey, { headers, body })).toBe(true);
    expect(new Webhook(old).verify(body, headers)).toEqual({ n: 1 });
  });

  test("the signature is sent under the names that the operator chose, and no others", async ({ task }) => {
    await service.svix.endpoint.create(task.id, { url: receiver.url });
    const { headers } = await deliver(task.id);
    const names = Object.keys(headers).filter((name) => /^(?:svix|webhook)-/.test(name));
    expect(names.sort()).toEqual(["webhook-id", "webhook-signature", "webhook-timestamp"]);
  });

  test("a key whose halves do not belong together is refused, and not repeated", async ({ task }) => {
    const wrong = `whsk_${Buffer.alloc(64, 7).toString("base64")}`;
    const path = `/api/v1/app/${task.id}/endpoint`;
    const answer = await service.request("POST", path, { url: receiver.url, secret: wrong });
    expect(answer).toMatchObject({
      status: 422,
      json: { detail: [{ loc: ["body", "secret"], msg: expect.stringContaining("not the public key") }] },
    });
    expect(answer.text).not.toContain(wrong);
  });
});
