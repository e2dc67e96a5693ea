import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createJwtReader, looksLikeJwt } from "./json-web-token.ts";

const secret = "a-secret-that-the-operator-has-set";
const now = Date.parse("2026-03-01T12:00:00Z");
const seconds = now / 1000;
const read = createJwtReader(secret);

/** The claims of `svix-server jwt generate`. */
const svixClaims = {
  iat: seconds - 60,
  exp: seconds - 60 + 10 * 365 * 24 * 60 * 60,
  nbf: seconds - 60,
  iss: "svix-server",
  sub: "org_23rb8YdGqMT0qIzpgGwdXfHirMu",
};

/** A JWT made by hand, so that what reads it is not what wrote it. */
function jwt(
  claims: unknown,
  {
    header = { alg: "HS256", typ: "JWT" },
    digest = "sha256",
    key = secret,
  }: {
    header?: object;
    digest?: string;
    key?: string;
  } = {},
): string {
  const signed = [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  return `${signed}.${createHmac(digest, key).update(signed).digest("base64url")}`;
}

describe("a token as svix-server makes it", () => {
  test("for an organization opens that organization", async () => {
    expect(await read(jwt(svixClaims), now)).toEqual({
      organizationId: "org_23rb8YdGqMT0qIzpgGwdXfHirMu",
      applicationId: null,
      featureFlags: [],
      expiresAt: (svixClaims.exp + 30) * 1000,
    });
  });

  test("for an application opens that one of its organization, with its feature flags", async () => {
    const claims = { ...svixClaims, org: svixClaims.sub, sub: "app_1", feature_flags: ["beta"] };
    expect(await read(jwt(claims), now)).toMatchObject({
      organizationId: svixClaims.sub,
      applicationId: "app_1",
      featureFlags: ["beta"],
    });
  });

  test("counts for ever where it has no exp", async () => {
    const { exp: _, ...claims } = svixClaims;
    expect(await read(jwt(claims), now)).toMatchObject({ expiresAt: null });
  });
});

describe("the times of a token", () => {
  test.each([
    ["that has expired for a minute", { exp: seconds - 60 }, "expired"],
    ["that has expired for less than the clocks may be apart", { exp: seconds - 20 }, expect.any(Object)],
    ["that counts from the next minute on", { nbf: seconds + 60 }, "invalid"],
    ["that counts from when the clocks may say it is", { nbf: seconds + 20 }, expect.any(Object)],
    ["whose exp is no number", { exp: "never" }, "invalid"],
  ])("one %s", async (_, times, expected) => {
    expect(await read(jwt({ ...svixClaims, ...times }), now)).toEqual(expected);
  });
});

describe("a token that is refused", () => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

  function rsaJwt(): string {
    const [header, claims] = jwt(svixClaims, { header: { alg: "RS256", typ: "JWT" } }).split(".");
    const signature = sign("sha256", Buffer.from(`${header}.${claims}`), privateKey);
    return `${header}.${claims}.${signature.toString("base64url")}`;
  }

  const unsigned = jwt(svixClaims, { header: { alg: "none", typ: "JWT" } });

  test.each([
    ["is signed with another secret", jwt(svixClaims, { key: "another-secret-of-somebody" })],
    ["says alg none and is signed", unsigned],
    ["says alg none and is not signed", unsigned.replace(/[^.]*$/, "")],
    ["says alg None", jwt(svixClaims, { header: { alg: "None" } })],
    ["says no alg", jwt(svixClaims, { header: { typ: "JWT" } })],
    ["is HS384", jwt(svixClaims, { header: { alg: "HS384" }, digest: "sha384" })],
    ["is HS512", jwt(svixClaims, { header: { alg: "HS512" }, digest: "sha512" })],
    ["is RS256", rsaJwt()],
    ["has a critical header nobody knows", jwt(svixClaims, { header: { alg: "HS256", crit: ["b"], b: 1 } })],
    [
      "has its claims changed",
      jwt(svixClaims).replace(/\.[^.]+\./, `.${btoa('{"sub":"org_other"}').replaceAll("=", "")}.`),
    ],
    ["has no signature", jwt(svixClaims).replace(/[^.]*$/, "")],
    ["has no sub", jwt({ ...svixClaims, sub: undefined })],
    ["has a sub that is no text", jwt({ ...svixClaims, sub: 7 })],
    ["has an org that is no text", jwt({ ...svixClaims, org: { id: "org_1" } })],
    ["has claims that are no object", jwt(["org_1"])],
    ["has flags that are no list", jwt({ ...svixClaims, feature_flags: "beta" })],
    ["is no JSON within", `${btoa("{{").replaceAll("=", "")}.${btoa("x").replaceAll("=", "")}.AAAA`],
  ])("%s", async (_, token) => {
    expect(await read(token, now)).toBe("invalid");
  });
});

test("looksLikeJwt() tells a JWT from a token of the service", () => {
  expect(looksLikeJwt(jwt(svixClaims))).toBe(true);
  expect(looksLikeJwt("hp_q83vEjRWeJCrze_-7xI0Vnirze8SNFZ4q83vEjRWeJA")).toBe(false);
});
