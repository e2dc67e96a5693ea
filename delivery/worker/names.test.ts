import { describe, expect, test, vi } from "vitest";
import { shareLookups, systemResolve, type Address } from "./names.ts";

const loopback: Address = { address: "127.0.0.1", family: 4 };

/** A resolver that answers when told to, on a clock that is set by hand. */
function openLookups() {
  const clock = { now: 0 };
  const asked: { hostname: string; answer: (addresses: readonly Address[] | Error) => void }[] = [];
  const resolve = shareLookups(
    (hostname) =>
      new Promise((answer, fail) => {
        asked.push({
          hostname,
          answer: (given) => {
            if (given instanceof Error) fail(given);
            else answer(given);
          },
        });
      }),
    () => clock.now,
  );
  return { clock, asked, resolve };
}

describe("shareLookups()", () => {
  test("asks once for all that want a name at the same time", async () => {
    const { asked, resolve } = openLookups();
    const both = [resolve("a.example"), resolve("a.example"), resolve("b.example")];
    expect(asked.map(({ hostname }) => hostname)).toEqual(["a.example", "b.example"]);
    asked[0]?.answer([loopback]);
    asked[1]?.answer([]);
    expect(await Promise.all(both)).toEqual([[loopback], [loopback], []]);
  });

  test("keeps an answer for a second, then asks again", async () => {
    const { clock, asked, resolve } = openLookups();
    const first = resolve("a.example");
    asked[0]?.answer([loopback]);
    await first;
    clock.now = 999;
    expect(await resolve("a.example")).toEqual([loopback]);
    expect(asked).toHaveLength(1);
    clock.now = 1_001;
    void resolve("a.example");
    expect(asked).toHaveLength(2);
  });

  test("keeps an error too, for as long as it took, but 30 seconds at most", async () => {
    const { clock, asked, resolve } = openLookups();
    const first = resolve("slow.example");
    clock.now = 8_000;
    asked[0]?.answer(new Error("no answer"));
    await expect(first).rejects.toThrow("no answer");
    clock.now = 15_999;
    await expect(resolve("slow.example")).rejects.toThrow("no answer");
    expect(asked).toHaveLength(1);

    clock.now = 16_001;
    const second = resolve("slow.example");
    await vi.waitFor(() => {
      expect(asked).toHaveLength(2);
    });
    clock.now = 100_000;
    asked[1]?.answer(new Error("no answer"));
    await expect(second).rejects.toThrow("no answer");
    clock.now = 130_001;
    void resolve("slow.example");
    await vi.waitFor(() => {
      expect(asked).toHaveLength(3);
    });
  });

  test("names that were slow before get no more than half of the threads, and others go past them", async () => {
    const { clock, asked, resolve } = openLookups();
    const names = Array.from({ length: 20 }, (_, n) => `slow${n}.example`);
    const first = names.map((name) => resolve(name));
    expect(asked).toHaveLength(20);
    clock.now = 5_000;
    for (const { answer } of asked.splice(0)) answer([loopback]);
    await Promise.all(first);

    clock.now = 20_000;
    const second = names.map((name) => resolve(name));
    const quick = resolve("quick.example");
    await vi.waitFor(() => {
      expect(asked).toHaveLength(17);
    });
    expect(asked.map(({ hostname }) => hostname)).toContain("quick.example");
    for (let done = 0; done < 21; done++) {
      await vi.waitFor(() => {
        expect(asked.length).toBeGreaterThan(done);
      });
      asked[done]?.answer([loopback]);
    }
    expect(await Promise.all([...second, quick])).toEqual(Array.from({ length: 21 }, () => [loopback]));

    // They were quick now.
    clock.now = 40_000;
    for (const name of names) void resolve(name);
    expect(asked).toHaveLength(41);
  });

  test("keeps no endless number of names", async () => {
    let asked = 0;
    const resolve = shareLookups(
      async () => {
        asked++;
        return [loopback];
      },
      () => 0,
    );
    for (let n = 0; n <= 10_000; n++) await resolve(`host${n}.example`);
    await resolve("host10000.example");
    expect(asked).toBe(10_001);
    await resolve("host0.example");
    expect(asked).toBe(10_002);
  });
});

test("systemResolve() knows the hosts file", async () => {
  const addresses = await systemResolve("localhost");
  expect(addresses.map(({ address }) => address)).toContainEqual(
    expect.stringMatching(/^(127\.0\.0\.1|::1)$/),
  );
});
