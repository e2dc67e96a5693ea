import twilio from "twilio";
import { describe, expect, test } from "vitest";
import { isBodyHashRight, isSignatureRight, toSignature, toSignedUrl } from "./signature.ts";

/** The vectors of Twilio's own libraries (twilio-node spec/validation.spec.js, twilio-python test_request_validator.py). */
const authToken = "12345";
const form = new URLSearchParams({
  CallSid: "CA1234567890ABCDE",
  Caller: "+14158675309",
  Digits: "1234",
  From: "+14158675309",
  To: "+18005551212",
});
const none = new URLSearchParams();

describe("toSignature()", () => {
  test.each([
    ["https://mycompany.com/myapp.php?foo=1&bar=2", "RSOYDt4T1cUTdK1PDd93/VVr8B8="],
    ["http://mycompany.com:1234/myapp.php?foo=1&bar=2", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="],
    ["https://mycompany.com:443/myapp.php?foo=1&bar=2", "kvajT1Ptam85bY51eRf/AJRuM3w="],
    ["https://user:pass@mycompany.com/myapp.php?foo=1&bar=2", "CukzLTc1tT5dXEDIHm/tKBanW10="],
    ["https://user:pass@mycompany.com:443/myapp.php?foo=1&bar=2", "ZQFR1PTIZXF2MXB8ZnKCvnnA+rI="],
    ["https://mycompany.com/myapp.php?foo=1&bar=2&Body=It%27s+amazing", "TfZzewPq8wqrGlMfyAud8+/IvJ0="],
  ])("gives the official signature of a form at %s", (url, signature) => {
    expect(toSignature(authToken, url, form)).toBe(signature);
  });

  test.each([
    ["in order", ["+1325xxxxxxx", "+1415xxxxxxx"]],
    ["in any order", ["+1415xxxxxxx", "+1325xxxxxxx"]],
    ["more than once", ["+1415xxxxxxx", "+1325xxxxxxx", "+1415xxxxxxx"]],
  ])("gives the official signature of a parameter that is repeated %s", (_, values) => {
    const repeated = new URLSearchParams(
      values.map((value): [string, string] => ["MessagingBinding.Address", value]),
    );
    expect(toSignature(authToken, "https://mycompany.com/myapp.php?foo=1&bar=2", repeated)).toBe(
      "83O6e2vORAoJHUNzJjDWN1jz+BA=",
    );
  });

  test("gives the official signature of a URL with the hash of its body", () => {
    const url =
      "https://mycompany.com/myapp.php?foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    expect(toSignature(authToken, url, none)).toBe("a9nBmqA0ju/hNViExpshrM61xv4=");
    expect(isBodyHashRight(url, Buffer.from('{"property": "value", "boolean": true}'))).toBe(true);
    expect(isBodyHashRight(url, Buffer.from('{"property": "value", "boolean": false}'))).toBe(false);
  });
});

describe("isSignatureRight()", () => {
  const url = "https://mycompany.com/myapp.php?foo=1&bar=2";
  const emptyHash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

  test.each([
    ["without port", url, "RSOYDt4T1cUTdK1PDd93/VVr8B8="],
    ["signed with the standard port", url, "kvajT1Ptam85bY51eRf/AJRuM3w="],
    [
      "received with the standard port",
      "https://mycompany.com:443/myapp.php?foo=1&bar=2",
      "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
    ],
    [
      "received with another port",
      "https://mycompany.com:8443/myapp.php?foo=1&bar=2",
      "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
    ],
    [
      "over http with a port",
      "http://mycompany.com:1234/myapp.php?foo=1&bar=2",
      "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",
    ],
    ["with a raw apostrophe", `${url}&Body=It's+amazing`, "TfZzewPq8wqrGlMfyAud8+/IvJ0="],
    [
      "with userinfo and port",
      "https://user:pass@mycompany.com/myapp.php?foo=1&bar=2",
      "ZQFR1PTIZXF2MXB8ZnKCvnnA+rI=",
    ],
  ])("accepts a URL %s", (_, receivedUrl, signature) => {
    expect(isSignatureRight(authToken, signature, receivedUrl, form)).toBe(true);
  });

  test("accepts a hashed body signed with the port that the URL leaves out", () => {
    const hashed = `${url}&bodySHA256=${emptyHash}`;
    expect(isSignatureRight(authToken, "Ldidvp12m26NI7eqEvxnEpkd9Hc=", hashed, none)).toBe(true);
    expect(isBodyHashRight(hashed, Buffer.from("{}"))).toBe(true);
  });

  test("accepts a query string signed as Node's querystring writes it, as the official package does", () => {
    const signature = toSignature(authToken, "https://mycompany.com/?Body=It's%20all", form);
    const receivedUrl = "https://mycompany.com/?Body=It%27s+all";
    expect(isSignatureRight(authToken, signature, receivedUrl, form)).toBe(true);
    expect(twilio.validateRequest(authToken, signature, receivedUrl, Object.fromEntries(form))).toBe(true);
  });

  test.each([
    ["another token", "54321", "RSOYDt4T1cUTdK1PDd93/VVr8B8=", url],
    ["another signature", authToken, "SSOYDt4T1cUTdK1PDd93/VVr8B8=", url],
    ["an empty signature", authToken, "", url],
    ["another URL", authToken, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", url.replace("foo=1", "foo=2")],
    ["another host", authToken, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", url.replace("mycompany", "yourcompany")],
  ])("refuses %s", (_, token, signature, receivedUrl) => {
    expect(isSignatureRight(token, signature, receivedUrl, form)).toBe(false);
  });

  test("refuses other parameters", () => {
    const changed = new URLSearchParams({ ...Object.fromEntries(form), Digits: "1235" });
    expect(isSignatureRight(authToken, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", url, changed)).toBe(false);
  });
});

test("a form of very many parameters is checked in no time", () => {
  const many = new URLSearchParams(
    Array.from({ length: 100_000 }, (_, index): [string, string] => [`n${index}`, "1"]),
  );
  const startedAt = performance.now();
  expect(isSignatureRight(authToken, "x", "https://mycompany.com/", many)).toBe(false);
  expect(performance.now() - startedAt).toBeLessThan(5_000);
});

describe("toSignedUrl()", () => {
  test.each([
    ["https://user:pass@h.example:8443/a?b=c#rc=2", "https://h.example/a?b=c"],
    ["http://user:pass@h.example:8080/a?b=c#rc=2", "http://h.example:8080/a?b=c"],
    ["https://h.example", "https://h.example/"],
  ])("signs %s as %s", (url, signed) => {
    expect(toSignedUrl(new URL(url))).toBe(signed);
  });
});
