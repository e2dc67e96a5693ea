const sensitive = /auth|cookie|credential|key|passw|secret|signature|token/i;

/** Whether a header's value is not to be shown, by its name. */
export function isSensitiveHeader(name: string): boolean {
  return sensitive.test(name);
}
