/**
 * Whether two texts are one URL by the URL standard: `https://Example.com` and `https://example.com/` are. A vendor may
 * answer with its own spelling, and that is no drift.
 */
export function isSameUrl(left: string, right: string): boolean {
  if (left === right) return true;
  return URL.canParse(left) && URL.canParse(right) && new URL(left).href === new URL(right).href;
}
