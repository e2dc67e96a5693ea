import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import {
  createSigningSecret,
  signContent,
  signatureHeaders,
  verifySignedRequest,
} from "./standard-webhooks.ts";

/** The vector that the official libraries test themselves with. */
const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const body = Buffer.from('{"test": 2432232314}');
const content = { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: "1614265330", body };
const good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const now = 1614265330_000;

const ed25519Key =
  "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const goodEd25519 =
  "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

function verify(
  signature: string,
  options: { at?: number; secrets?: { key: string; expiresAt: number | null }[] } = {},
) {
  const headers = {
    "webhook-id": content.id,
    "webhook-timestamp": content.timestamp,
    "webhook-signature": signature,
  };
  const request = { method: "POST", url: "https://receiver.example/", headers, body };
  return verifySignedRequest(request, options.secrets ?? [{ key, expiresAt: null }], options.at ?? now);
}

describe("signContent()", () => {
  test("gives the official v1 signature", () => {
    expect(signContent(content, [key])).toBe(good);
    expect(new Webhook(key).sign(content.id, new Date(now), body)).toBe(good);
  });

  test("gives the official v1a signature for an ed25519 key, also for its bare seed", () => {
    expect(signContent(content, [ed25519Key])).toBe(goodEd25519);
    const seed = Buffer.from(ed25519Key.slice(5), "base64").subarray(0, 32).toString("base64");
    expect(signContent(content, [`whsk_${seed}`])).toBe(goodEd25519);
  });

  test("signs with every key", () => {
    expect(signContent(content, [key, ed25519Key])).toBe(`${good} ${goodEd25519}`);
  });

  test("takes secrets without prefix and without padding", () => {
    expect(signContent(content, [key.replace("whsec_", "")])).toBe(good);
    const padded = `whsec_${Buffer.alloc(25, 7).toString("base64")}`;
    expect(signContent(content, [padded.replace(/=+$/, "")])).toBe(signContent(content, [padded]));
  });

  test.each(["whsec_", "", "whsk_c2hvcnQ="])(
    "refuses the unusable key %j and does not repeat it",
    (unusable) => {
      expect(() => signContent(content, [unusable])).toThrow(/^(?!.*c2hvcnQ)An? .*: write /);
    },
  );
});

describe("verifySignedRequest()", () => {
  const bad = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";

  test.each([
    ["the official signature", good],
    ["the right one among several", `${bad} v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= ${good} ${bad}`],
  ])("accepts %s", (_, signature) => {
    expect(verify(signature)).toEqual({ verified: true, by: "signature" });
  });

  test.each([
    ["another signature", bad],
    ["an unknown version", good.replace("v1,", "v2,")],
    ["the asymmetric version", good.replace("v1,", "v1a,")],
    ["a truncated signature", good.slice(0, 8)],
    ["a bare version", "v1,"],
    ["nothing but a space", " "],
    ["no signature", ""],
  ])("refuses %s", (_, signature) => {
    expect(verify(signature)).toMatchObject({ verified: false });
  });

  test("accepts ed25519 signatures by their key only", () => {
    const secrets = [{ key: ed25519Key, expiresAt: null }];
    expect(verify(goodEd25519, { secrets })).toMatchObject({ verified: true });
    expect(verify(goodEd25519)).toMatchObject({ verified: false });
    expect(verify(good, { secrets })).toMatchObject({ verified: false });
  });

  test("allows five minutes in both directions, and no second more", () => {
    for (const direction of [1, -1]) {
      expect(verify(good, { at: now + direction * 300_000 })).toMatchObject({ verified: true });
      expect(verify(good, { at: now + direction * 301_000 })).toMatchObject({
        verified: false,
        reason: expect.stringContaining("five minutes"),
      });
    }
  });

  test("looks at 32 signatures and no more", () => {
    expect(verify(`${`${bad} `.repeat(31)}${good}`)).toMatchObject({ verified: true });
    expect(verify(`${`${bad} `.repeat(32)}${good}`)).toMatchObject({ verified: false });
  });

  test("accepts the old secret until it expires", () => {
    const current = { key: createSigningSecret(), expiresAt: null };
    expect(verify(good, { secrets: [current, { key, expiresAt: now + 1 }] })).toMatchObject({
      verified: true,
    });
    expect(verify(good, { secrets: [current, { key, expiresAt: now }] })).toMatchObject({ verified: false });
  });

  test.each(["webhook-id", "webhook-timestamp", "webhook-signature"])(
    "refuses a request without %s",
    (name) => {
      const { [name]: _missing, ...headers } = signatureHeaders(
        "msg_1",
        body,
        [{ key, expiresAt: null }],
        now,
      );
      const unbranded = Object.fromEntries(
        Object.entries(headers).filter(([other]) => other.startsWith("webhook-")),
      );
      const request = { method: "POST", url: "https://receiver.example/", headers: unbranded, body };
      expect(verifySignedRequest(request, [{ key, expiresAt: null }], now)).toMatchObject({
        verified: false,
        reason: expect.stringContaining(name),
      });
    },
  );

  test.each(["soon", "1614265330.5", "-1", "0x60380532", ""])("refuses the timestamp %j", (timestamp) => {
    const headers = { "webhook-id": content.id, "webhook-timestamp": timestamp, "webhook-signature": good };
    const request = { method: "POST", url: "https://receiver.example/", headers, body };
    expect(verifySignedRequest(request, [{ key, expiresAt: null }], now)).toMatchObject({ verified: false });
  });
});

describe("signatureHeaders()", () => {
  test("signs for the old receivers and the new while a secret rotates, as the official library checks", () => {
    const old = { key, expiresAt: Date.now() + 1_000 };
    const current = { key: createSigningSecret(), expiresAt: null };
    const expired = { key: createSigningSecret(), expiresAt: Date.now() - 1_000 };
    const headers = signatureHeaders("msg_1", body, [current, old, expired], Date.now());
    for (const secret of [old, current]) {
      expect(new Webhook(secret.key).verify(body, headers)).toEqual({ test: 2432232314 });
    }
    expect(() => new Webhook(expired.key).verify(body, headers)).toThrow("No matching signature");
  });
});

test("createSigningSecret() makes whsec_ and 24 bytes, another one each time", () => {
  expect(createSigningSecret()).toMatch(/^whsec_[A-Za-z0-9+/]{32}$/);
  expect(createSigningSecret()).not.toBe(createSigningSecret());
});
