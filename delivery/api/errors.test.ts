import { describe, expect, test } from "vitest";
import { ServiceError } from "../errors.ts";
import { createLogger } from "../log.ts";
import { ConflictError } from "../store/store.ts";
import { toErrorAnswer } from "./errors.ts";
import { createServer, type ServerContext } from "./server.ts";

describe("toErrorAnswer()", () => {
  test("says when to come back", () => {
    const error = new ServiceError("too_many_requests", "Too fast.", { retryAfterSeconds: 3 });
    expect(toErrorAnswer(error)).toEqual({
      status: 429,
      body: { code: "too_many_requests", detail: "Too fast." },
      retryAfterSeconds: 3,
    });
  });

  test("a validation error without places is one of the whole body", () => {
    expect(toErrorAnswer(new ServiceError("validation", "Wrong."))).toMatchObject({
      status: 422,
      body: { detail: [{ loc: ["body"], msg: "Wrong.", type: "value_error" }] },
    });
  });

  test("places are written down as texts", () => {
    const faults = [{ path: ["body", "channels", 0], message: "Wrong.", type: "value_error" }];
    expect(toErrorAnswer(new ServiceError("validation", "Wrong.", { faults }))).toMatchObject({
      body: { detail: [{ loc: ["body", "channels", "0"] }] },
    });
  });

  test("a rule of the store that was broken is a conflict", () => {
    expect(toErrorAnswer(new ConflictError("applications.uid"))).toMatchObject({
      status: 409,
      body: { code: "conflict" },
    });
  });

  test.each([[new Error("canary")], [{ statusCode: 500, message: "canary" }], ["canary"], [undefined]])(
    "a failure of the service, %s, tells nothing of the inside",
    (error) => {
      const answer = toErrorAnswer(error);
      expect(answer).toMatchObject({ status: 500, body: { code: "internal_error" } });
      expect(JSON.stringify(answer)).not.toContain("canary");
    },
  );
});

describe("a store that does not answer", () => {
  test("makes the service not ready, and requests fail without a word on the inside", async () => {
    const broken = (): Promise<never> => Promise.reject(new Error("canary: disk I/O error"));
    const server = createServer({
      store: { ping: broken, read: broken, write: broken, onChange: () => undefined },
      accounts: [],
      adminToken: "token",
      jwtSecret: null,
      inbox: false,
      httpsOnly: false,
      defaultSignatureType: "hmac256",
      limits: { maxBodyBytes: 1000, maxInFlightRequests: 10 },
      logger: createLogger("silent"),
    } as unknown as ServerContext);
    const ready = await server.inject("/readyz");
    expect([ready.statusCode, ready.headers["retry-after"], ready.json()]).toEqual([
      503,
      "5",
      { code: "unavailable", detail: "The store does not answer." },
    ]);
    const list = await server.inject({ url: "/api/v1/app", headers: { authorization: "Bearer token" } });
    expect([list.statusCode, list.json()]).toMatchObject([500, { code: "internal_error" }]);
    expect(list.body).not.toContain("canary");
    expect((await server.inject("/healthz")).statusCode).toBe(200);
    await server.close();
  });
});
