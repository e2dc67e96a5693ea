import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cutPage, paginate, pageJson, type Position } from "./pagination.ts";

const key = fc.string({ unit: fc.constantFrom("a", "b", "-", ".", "_"), minLength: 1, maxLength: 4 });
const keys = fc.uniqueArray(key, { maxLength: 12 }).map((items) => items.toSorted());

function pageOf(items: readonly string[], position: Position) {
  return paginate(position, String, cutPage(items, String));
}

describe("paginate()", () => {
  test("following the iterator visits every item once, in the order asked for", async () => {
    await fc.assert(
      fc.asyncProperty(
        keys,
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom("ascending", "descending"),
        async (items, limit, order) => {
          const seen: string[] = [];
          let iterator: string | null = null;
          let done = false;
          for (let pages = 0; !done && pages <= items.length; pages += 1) {
            const page = await pageOf(items, { limit, order, iterator: iterator ?? undefined });
            seen.push(...page.data);
            ({ iterator, done } = page);
          }
          expect(seen).toEqual(order === "ascending" ? items : items.toReversed());
        },
      ),
    );
  });

  test("the previous iterator leads back to the page before", async () => {
    await fc.assert(
      fc.asyncProperty(keys, fc.integer({ min: 1, max: 5 }), async (items, limit) => {
        const first = await pageOf(items, { limit });
        fc.pre(!first.done);
        const second = await pageOf(items, { limit, iterator: first.iterator ?? undefined });
        const back = await pageOf(items, { limit, iterator: second.prevIterator ?? undefined });
        expect(back).toMatchObject({ data: first.data, done: true });
      }),
    );
  });

  test("a page that ends with the last item says that it is the last", async () => {
    expect(await pageOf(["a", "b"], { limit: 2 })).toEqual({
      data: ["a", "b"],
      iterator: "b",
      prevIterator: "-a",
      done: true,
    });
  });

  test("an empty list has no iterators; an empty page behind the last item keeps the place", async () => {
    expect(await pageOf([], { limit: 2 })).toEqual({
      data: [],
      iterator: null,
      prevIterator: null,
      done: true,
    });
    expect(await pageOf(["a"], { limit: 2, iterator: "a" })).toMatchObject({
      data: [],
      iterator: "a",
      done: true,
    });
  });

  test("items that are JSON already are put into the page as they are", async () => {
    const page = await pageOf(["1.0", "2e1"], { limit: 1 });
    expect(pageJson(page)).toBe('{"data":[1.0],"iterator":"1.0","prevIterator":"-1.0","done":false}');
  });
});
