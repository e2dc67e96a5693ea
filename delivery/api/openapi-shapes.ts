import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { documentationOf, type JsonSchema } from "../operation.ts";

/** What a request may give, or what an answer has. */
export type Direction = "input" | "output";

const localPrefix = "#/$defs/";
const sharedPrefix = "#/components/schemas/";

/** The shapes of a document: those with an id (`shape.meta({ id })`) are written down once, and referred to. */
export class OpenApiShapes {
  /** By their ids. */
  readonly named: Record<string, JsonSchema> = {};

  /**
   * The shape as JSON Schema.
   *
   * @throws Error where another shape has the same id, and for what JSON Schema cannot say
   */
  convert(shape: z.ZodType, direction: Direction): JsonSchema {
    const {
      $schema: _,
      $defs = {},
      ...schema
    } = z.toJSONSchema(shape, {
      io: direction,
      override: ({ zodSchema, jsonSchema }) => {
        this.#amend(zodSchema, jsonSchema, direction);
      },
    });
    for (const [id, definition] of Object.entries($defs)) this.#add(id, referringToShared(definition));
    return referringToShared(schema);
  }

  #add(id: string, definition: JsonSchema): void {
    const known = (this.named[id] ??= definition);
    if (!isDeepStrictEqual(known, definition)) throw new Error(`Two shapes have the id "${id}"`);
  }

  #amend(shape: z.core.$ZodType, schema: JsonSchema, direction: Direction): void {
    const as = documentationOf(shape);
    if (as !== undefined) {
      const { description } = schema;
      for (const name of Object.keys(schema)) Reflect.deleteProperty(schema, name);
      Object.assign(schema, description !== undefined && { description });
      Object.assign(schema, as instanceof z.ZodType ? this.convert(as, direction) : as);
      return;
    }
    // What an answer has may grow.
    if (direction === "output" && shape._zod.def.type === "object" && schema.additionalProperties === false) {
      delete schema.additionalProperties;
    }
    delete schema.readOnly;
    // The name of a member is always a text.
    if (isDeepStrictEqual(schema.propertyNames, { type: "string" })) delete schema.propertyNames;
    // Where no other bound is set, the largest numbers that JavaScript counts with say nothing.
    if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
    if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
    const rules = rulesOf(shape);
    if (rules.length > 0) {
      const own = z.globalRegistry.get(shape)?.description;
      schema.description = [...(own === undefined ? [] : [own]), ...rules].join(" ");
    }
  }
}

/** The rules that JSON Schema has no words for, or no readable ones, as the messages for their breach tell them. */
function rulesOf(shape: z.core.$ZodType): string[] {
  const checks = shape._zod.def.checks ?? [];
  return checks.flatMap(({ _zod: { def } }) => {
    const isTold = def.check === "custom" || def.check === "string_format";
    // A message that depends on what was given is none for a document.
    if (!isTold || def.error === undefined || def.error.length > 0) return [];
    const message = (def.error as () => unknown)();
    return typeof message === "string" ? [message] : [];
  });
}

/** The schema with its references to what became shared. */
function referringToShared(schema: JsonSchema): JsonSchema {
  return JSON.parse(JSON.stringify(schema), (name, value: unknown) =>
    name === "$ref" && typeof value === "string" ? value.replace(localPrefix, sharedPrefix) : value,
  ) as JsonSchema;
}
