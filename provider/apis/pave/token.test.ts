import { expect, test } from "vitest";
import { createAuthHeaders } from "./token.ts";

test("signs `username:api_key@timestamp` with the secret, to the second and in UTC", () => {
  const identity = { username: "acme", apiKey: "key123", apiSecret: "secret" };
  expect(createAuthHeaders(identity, Date.parse("2021-05-30T14:49:19.999+02:00"))).toEqual({
    "API-Key": "key123",
    "API-Timestamp": "2021-05-30T12:49:19Z",
    "API-Token": "f6432e886396f8c834ee2bf6b61a27fc9f8271f93b2f933017c70f34d5d14ec8",
  });
});
