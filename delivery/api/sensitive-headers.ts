const sensitive = /auth|cookie|credential|key|passw|secret|token/i;

/** Whether a header's value is not to be shown, judged by its name. */
export function isSensitiveHeader(name: string): boolean {
  return sensitive.test(name) && !/idempotency/i.test(name);
}
