import { createPublicKey, verify as verifyWithKey } from "node:crypto";
import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";
import { describe, expect, test } from "vitest";
import {
  createSigningSecret,
  isSignatureHeader,
  parseSigningSecret,
  signContent,
  signatureFamilies,
  signatureHeaders,
  signatureTypes,
  verificationKeyOf,
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
const ed25519PublicKey = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
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

describe("signatureHeaders(), as the operator chooses the names", () => {
  const secrets = [{ key, expiresAt: null }];
  const of = (family: (typeof signatureFamilies)[number]) =>
    signatureHeaders(content.id, body, secrets, now, family);

  test("sends the same signature under both by default", () => {
    expect(signatureHeaders(content.id, body, secrets, now)).toEqual({ ...of("webhook"), ...of("svix") });
    expect(of("both")).toEqual({
      "webhook-id": content.id,
      "webhook-timestamp": content.timestamp,
      "webhook-signature": good,
      "svix-id": content.id,
      "svix-timestamp": content.timestamp,
      "svix-signature": good,
    });
  });

  test.each(["webhook", "svix"] as const)("sends %s-… alone, and its receivers verify it", (family) => {
    const headers = signatureHeaders("msg_1", body, secrets, Date.now(), family);
    expect(Object.keys(headers)).toEqual([`${family}-id`, `${family}-timestamp`, `${family}-signature`]);
    expect(() => {
      new SvixWebhook(key).verify(body, headers);
    }).not.toThrow();
    const request = { method: "POST", url: "https://receiver.example/", headers, body };
    expect(verifySignedRequest(request, secrets, Date.now())).toMatchObject({ verified: true });
  });

  test.each(signatureFamilies)("holds no other header's name: %s", (family) => {
    expect(Object.keys(of(family)).every(isSignatureHeader)).toBe(true);
    expect(["webhook-id-2", "x-svix-id", "svix", "webhook-signatures"].some(isSignatureHeader)).toBe(false);
  });
});

describe("verificationKeyOf()", () => {
  test("is the public key of an ed25519 key, and a symmetric key itself", () => {
    expect(verificationKeyOf(ed25519Key)).toBe(ed25519PublicKey);
    expect(verificationKeyOf(key)).toBe(key);
  });

  test("verifies what the secret signs, and nothing else, for any content and any key", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), fc.nat(1_999), (bytes, position) => {
        const secret = createSigningSecret("ed25519");
        const headers = signatureHeaders("msg_1", bytes, [{ key: secret, expiresAt: null }], now);
        const x = Buffer.from(verificationKeyOf(secret).slice("whpk_".length), "base64").toString(
          "base64url",
        );
        const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
        const [version, signature = ""] = String(headers["webhook-signature"]).split(",");
        const signed = Buffer.concat([Buffer.from(`msg_1.${headers["webhook-timestamp"]}.`), bytes]);
        expect(version).toBe("v1a");
        expect(verifyWithKey(null, signed, publicKey, Buffer.from(signature, "base64"))).toBe(true);
        signed[position % signed.length]! ^= 1;
        expect(verifyWithKey(null, signed, publicKey, Buffer.from(signature, "base64"))).toBe(false);
      }),
      { numRuns: 30 },
    );
  });
});

describe("parseSigningSecret()", () => {
  const bytesOf = (length: number): string => Buffer.alloc(length, 7).toString("base64");
  const seed = Buffer.from(ed25519Key.slice(5), "base64").subarray(0, 32).toString("base64");

  test.each([
    ["a symmetric one with its prefix", key, key],
    ["a symmetric one without", key.slice("whsec_".length), key],
    ["24 bytes", bytesOf(24), `whsec_${bytesOf(24)}`],
    ["75 bytes", bytesOf(75), `whsec_${bytesOf(75)}`],
    ["an ed25519 key with its public key", ed25519Key, ed25519Key],
    ["an ed25519 seed", `whsk_${seed}`, ed25519Key],
  ])("takes %s", (_, text, normal) => {
    expect(parseSigningSecret(text)).toEqual({ key: normal });
  });

  test.each([
    ["nothing", "", /24 to 75 bytes/],
    ["23 bytes", bytesOf(23), /24 to 75 bytes/],
    ["76 bytes", bytesOf(76), /24 to 75 bytes/],
    ["base64 without its padding", bytesOf(25).replace(/=+$/, ""), /24 to 75 bytes/],
    ["base64url", `whsec_${"_".repeat(32)}`, /24 to 75 bytes/],
    ["a prefix twice", `whsec_${key}`, /24 to 75 bytes/],
    ["an ed25519 key of 31 bytes", `whsk_${bytesOf(31)}`, /32 or 64 bytes/],
    ["an ed25519 key of 65 bytes", `whsk_${bytesOf(65)}`, /32 or 64 bytes/],
    ["halves that do not belong together", `whsk_${bytesOf(64)}`, /not the public key of its first half/],
    ["a public key", ed25519PublicKey, /is a public key: give the private one/],
  ])("refuses %s, and does not repeat it", (_, text, reason) => {
    const { problem } = parseSigningSecret(text) as { problem: string };
    expect(problem).toMatch(reason);
    if (text.length > 10) expect(problem).not.toContain(text.slice(6));
  });

  test.each(signatureTypes)("takes what createSigningSecret(%j) makes as it is", (type) => {
    const secret = createSigningSecret(type);
    expect(parseSigningSecret(secret)).toEqual({ key: secret });
  });
});

test("createSigningSecret() makes whsec_ and 24 bytes, or whsk_ and 64, others each time", () => {
  expect(createSigningSecret()).toMatch(/^whsec_[A-Za-z0-9+/]{32}$/);
  expect(createSigningSecret("hmac256")).toMatch(/^whsec_/);
  expect(createSigningSecret("ed25519")).toMatch(/^whsk_[A-Za-z0-9+/]{86}==$/);
  for (const type of signatureTypes) expect(createSigningSecret(type)).not.toBe(createSigningSecret(type));
});
