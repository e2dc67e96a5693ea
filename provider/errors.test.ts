import { expect, test } from "vitest";
import { errorTable, HookplaneError } from "./errors.ts";

test("an error reads as one line: place, problem, request, remedy, code", () => {
  const error = new HookplaneError("rejected", "PAVE did not accept the request", {
    method: "PUT",
    path: "https://openapi.paveapi.com/v1/callbacks/X",
    status: 400,
    vendorMessage: 'Missing "url".',
  }).with({ operation: "update", resource: 'pave:Callback "X"' });
  expect(error.message).toBe(
    'pave:Callback "X": update failed: PAVE did not accept the request (PUT https://openapi.paveapi.com/v1/callbacks/X ' +
      'answered 400: "Missing \\"url\\"."). Correct what the vendor names. [rejected]',
  );
});

test("what is known first is not overwritten", () => {
  const error = new HookplaneError("gone", "it is gone", { operation: "read", remedy: "Look again" });
  expect(error.with({ operation: "update", resource: "a:B" }).message).toBe(
    "a:B: read failed: it is gone. Look again. [gone]",
  );
});

test("every code has a remedy, and codes stay what they are", () => {
  for (const remedy of Object.values(errorTable)) expect(remedy).toMatch(/\.$/);
  expect(Object.keys(errorTable)).toMatchInlineSnapshot(`
    [
      "invalid_input",
      "connection_missing",
      "connection_mismatch",
      "authentication_failed",
      "already_exists",
      "not_found",
      "gone",
      "rejected",
      "rate_limited",
      "vendor_failed",
      "bad_answer",
      "unreachable",
      "answer_lost",
      "aborted",
      "not_ready",
      "internal",
    ]
  `);
});
