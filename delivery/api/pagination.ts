import { z } from "zod";
import { documentedAs } from "../operation.ts";
import type { Page } from "../store/store.ts";

const defaultLimit = 50;
const maxLimit = 250;

/** The query of a list. `iterator` is opaque to the caller: what the last page gave. */
export const pageQuery = z.object({
  limit: documentedAs(
    z
      .string()
      .regex(/^\d{1,9}$/, "The limit must be a whole number.")
      .transform(Number)
      .refine((limit) => limit <= maxLimit, `The limit must be from 0 to ${maxLimit}.`)
      .default(defaultLimit),
    { type: "integer", minimum: 0, maximum: maxLimit, default: defaultLimit },
  ),
  iterator: z
    .string()
    .regex(/^-?[a-zA-Z0-9\-_.]{1,258}$/, "The iterator must be one that a list has answered with.")
    .optional(),
});

const order = z.enum(["ascending", "descending"], 'The order must be "ascending" or "descending".');

/** The same for lists that may be asked for in either order. */
export const orderedPageQuery = pageQuery.extend({ order: order.default("ascending") });

/** The same for lists that begin with what is newest, unless they are asked for the other way round. */
export const reversedPageQuery = pageQuery.extend({ order: order.default("descending") });

/** Where in a list one is, and which way one goes. */
export interface Position {
  readonly limit: number;
  readonly iterator?: string | undefined;
  readonly order?: "ascending" | "descending" | undefined;
}

/** One page of a list, as the contract's `ListResponse_…`. */
export interface ListPage<T> {
  readonly data: readonly T[];
  /** Goes on behind this page. */
  readonly iterator: string | null;
  /** Goes back before this page. */
  readonly prevIterator: string | null;
  /** Whether nothing more lies in the direction that was asked for. */
  readonly done: boolean;
}

/** The shape of a page of such items. */
export function pageOf(item: z.ZodType): z.ZodType {
  const name = z.globalRegistry.get(item)?.id;
  return z
    .object({
      data: z.array(item),
      iterator: z.string().nullable().describe("Goes on behind this page."),
      prevIterator: z.string().nullable().describe("Goes back before this page."),
      done: z.boolean().describe("Whether nothing more lies in the direction that was asked for."),
    })
    .meta({ id: `ListResponse_${name}` });
}

/**
 * One page of a list that the store keeps in the order of a key.
 *
 * @param fetch reads from the store; it is asked for one item more than the page has, to know whether it is the last
 */
export async function paginate<T>(
  position: Position,
  keyOf: (item: T) => string,
  fetch: (page: Page) => Promise<readonly T[]>,
): Promise<ListPage<T>> {
  const { limit, iterator, order = "ascending" } = position;
  const backwards = iterator?.startsWith("-") ?? false;
  const items = await fetch({
    limit: limit + 1,
    after: iterator === undefined ? undefined : decode(backwards ? iterator.slice(1) : iterator),
    descending: (order === "descending") !== backwards,
  });
  const data = items.slice(0, limit);
  if (backwards) data.reverse();
  const [first, last] = [data[0], data.at(-1)];
  return {
    data,
    // An empty page keeps the caller's place, so that a later call sees what has come since.
    iterator: last === undefined ? (backwards ? null : (iterator ?? null)) : encode(keyOf(last)),
    prevIterator: first === undefined ? null : `-${encode(keyOf(first))}`,
    done: items.length <= limit,
  };
}

/** Cuts a page out of a whole list that is in the order of its key. */
export function cutPage<T>(
  items: readonly T[],
  keyOf: (item: T) => string,
): (page: Page) => Promise<readonly T[]> {
  return async ({ limit, after, descending = false }) => {
    const directed = descending ? items.toReversed() : items;
    const start =
      after === undefined
        ? 0
        : directed.findIndex((item) => (descending ? keyOf(item) < after : keyOf(item) > after));
    return start === -1 ? [] : directed.slice(start, start + limit);
  };
}

/** The page as the contract's JSON, for items that are JSON already. */
export function pageJson(page: ListPage<string>): string {
  const { data, ...rest } = page;
  return `{"data":[${data.join(",")}],${JSON.stringify(rest).slice(1)}`;
}

/** The page with each item as the API shows it. */
export function mapPage<T, Out>(page: ListPage<T>, toOut: (item: T) => Out): ListPage<Out> {
  return { ...page, data: page.data.map(toOut) };
}

// A leading "-" means "before"; keys that begin with it (event type names may) are told apart by a ".".
function encode(key: string): string {
  return /^[-.]/.test(key) ? `.${key}` : key;
}

function decode(iterator: string): string {
  return iterator.startsWith(".") ? iterator.slice(1) : iterator;
}
