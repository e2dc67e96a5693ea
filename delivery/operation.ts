import type { z } from "zod";

/** JSON Schema as JSON, draft 2020-12. */
export type JsonSchema = z.core.JSONSchema.BaseSchema;

/** What the service's OpenAPI document says of a route, beside what the route itself says. */
export interface Operation {
  /** A few words that begin with a verb, such as `List applications`; the operation's id is made of them. */
  readonly summary: string;
  /** What it is listed under, such as `Application`. */
  readonly tag: string;
  readonly description?: string;
  /** The shape of the query string; none is documented without it. */
  readonly query?: z.ZodObject;
  /**
   * The shape of the body. Where some requests are held to a narrower shape, that comes behind the one that is shown.
   * Without it, a body is not read.
   */
  readonly body?: z.ZodType | readonly [z.ZodType, ...z.ZodType[]];
  /** `application/json` by default. */
  readonly bodyType?: "application/x-www-form-urlencoded" | "*/*";
  /** Whether the request does its work once for an `Idempotency-Key`. */
  readonly isRepeatable?: boolean;
  /** Whether anybody may ask, without a token. */
  readonly isOpen?: boolean;
  /** The answers that are no errors, by status or class of statuses (`2XX`); null for one without a body. */
  readonly answers: Readonly<Record<string, AnswerShape | null>>;
}

/** The shape of an answer in JSON; of another one, its content type. */
type AnswerShape = z.ZodType | string;

/** How callers of an API say who they are, as the document's security scheme. */
export type SecurityScheme =
  | { readonly type: "http"; readonly scheme: "basic" | "bearer"; readonly description?: string }
  | {
      readonly type: "apiKey";
      readonly in: "header";
      readonly name: string;
      readonly description?: string;
    };

/** What the operations of an API have in common in the document. */
export interface ApiDocumentation {
  /** How callers say who they are, by the schemes' names in the document: by all of them at once. */
  readonly security: Readonly<Record<string, SecurityScheme>>;
  /** What errors look like, by status or class of statuses (`4XX`). */
  readonly errors: Readonly<Record<string, z.ZodType>>;
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the OpenAPI document says of the route. */
    operation?: Operation;
  }
}

const documented = new WeakMap<z.core.$ZodType, JsonSchema | z.ZodType>();

/**
 * A shape that the document shows as something else: as it is meant (`true`, not `"true"`), where the shape itself reads
 * text, or as what its parts are checked by later.
 */
export function documentedAs<Shape extends z.ZodType>(shape: Shape, as: JsonSchema | z.ZodType): Shape {
  // A shape of its own: others may be the same object.
  const copy = shape.clone();
  documented.set(copy, as);
  return copy;
}

/** What `documentedAs` has said of the shape, or of the one it was made from. */
export function documentationOf(shape: z.core.$ZodType): JsonSchema | z.ZodType | undefined {
  const { parent } = shape._zod;
  return documented.get(shape) ?? (parent && documentationOf(parent));
}
