import { z } from "zod";
import { isPlainObject } from "./normal.ts";
import type { AnyResource } from "./resource.ts";

/** The marks of one input or output: see `GlobalMeta` in resource.ts. */
export type Marks = Pick<
  z.core.GlobalMeta,
  "description" | "replaces" | "secret" | "compare" | "unmanaged" | "local"
>;

/** The marks of a property, wherever in its chain of `.optional()`, `.default()` and the like they were put. */
export function marksOf(schema: z.core.$ZodType): Marks {
  const own = z.globalRegistry.get(schema) ?? {};
  const inner = innerType(schema);
  return inner ? { ...marksOf(inner), ...own } : own;
}

function innerType(schema: z.core.$ZodType): z.core.$ZodType | undefined {
  const { def } = schema._zod;
  if ("innerType" in def) return def.innerType as z.core.$ZodType;
  return def.type === "pipe" ? (def as z.core.$ZodPipeDef).in : undefined;
}

/** A property of a resource by name, with what the program may leave out and what is known of it. */
export interface Property {
  readonly name: string;
  readonly schema: z.core.$ZodType;
  readonly marks: Marks;
  /** The program may leave it out. */
  readonly optional: boolean;
}

/** The properties of an object schema in the order in which the file has them. */
export function propertiesOf(object: z.ZodObject | undefined): readonly Property[] {
  return Object.entries<z.core.$ZodType>(object?.shape ?? {}).map(([name, schema]) => ({
    name,
    schema,
    marks: marksOf(schema),
    optional: schema._zod.optin !== undefined,
  }));
}

/** The names of the properties that are encrypted in the state, `connection` among them. */
export function secretNames(resource: AnyResource): readonly string[] {
  const marked = [...propertiesOf(resource.inputs), ...propertiesOf(resource.outputs)]
    .filter(({ marks }) => marks.secret)
    .map(({ name }) => name);
  return resource.connection ? [...marked, "connection"] : marked;
}

/**
 * What of a resource's values must never be shown, the connection apart. Where parts of a secret property are marked
 * themselves, those alone: the rest is encrypted along with them, but is no secret, and a message in which each `POST` is
 * blotted out cannot be read.
 */
export function secretValues(
  resource: AnyResource,
  values: Readonly<Record<string, unknown>>,
): readonly unknown[] {
  return [...propertiesOf(resource.inputs), ...propertiesOf(resource.outputs)]
    .filter(({ marks }) => marks.secret)
    .flatMap(({ name, schema }) => {
      const value = values[name];
      const parts =
        schema instanceof z.ZodObject ? propertiesOf(schema).filter(({ marks }) => marks.secret) : [];
      return parts.length > 0 && isPlainObject(value) ? parts.map((part) => value[part.name]) : [value];
    });
}
