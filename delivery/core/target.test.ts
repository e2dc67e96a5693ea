import { expect, test } from "vitest";
import { isDeliverableUrl, isHttpsUrl, toTarget, withQuery } from "./target.ts";

test("requests the URL without fragment and userinfo, which becomes Basic credentials", () => {
  const target = toTarget("https://us%40er:p%3Ass@host.example:8443/a?b=c#rc=2");
  expect(target.url.href).toBe("https://host.example:8443/a?b=c");
  expect(target.headers).toEqual({ authorization: `Basic ${btoa("us@er:p:ss")}` });
  expect(toTarget("http://host.example").headers).toEqual({});
  expect(toTarget("http://100%:x@host.example").headers).toEqual({
    authorization: `Basic ${btoa("100%:x")}`,
  });
});

test("adds to a query and leaves what is there as it was written", () => {
  const more = new URLSearchParams({ c: "d e" });
  expect(withQuery(new URL("http://h/?a=%20+b"), more).href).toBe("http://h/?a=%20+b&c=d+e");
  expect(withQuery(new URL("http://h/"), more).href).toBe("http://h/?c=d+e");
  expect(withQuery(new URL("http://h/?"), new URLSearchParams()).href).toBe("http://h/");
});

test.each(["http://h", "https://h:1/a", "HTTPS://h"])("delivers to %s", (url) => {
  expect(isDeliverableUrl(url)).toBe(true);
});

test.each(["", "/a", "h.example/a", "ftp://h", "javascript:alert(1)", "http://", "http://h:99999"])(
  "does not deliver to %j",
  (url) => {
    expect(isDeliverableUrl(url)).toBe(false);
  },
);

test.each([
  ["https://h", true],
  ["HTTPS://h:80/a", true],
  ["http://h", false],
  ["http://h:443", false],
  ["https", false],
])("whether %s is encrypted: %s", (url, is) => {
  expect(isHttpsUrl(url)).toBe(is);
});
