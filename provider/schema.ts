import { z } from "zod";
import { connectionSettings } from "./config.ts";
import { marksOf, propertiesOf, secretNames } from "./marks.ts";
import type { AnyResource, ApiDefinition, ConnectionDefinition } from "./resource.ts";

/** The shape of a value, as both schema.json and the TypeScript classes need it. */
export type Shape =
  | { readonly kind: "string" | "number" | "integer" | "boolean" | "any" }
  | { readonly kind: "choice"; readonly values: readonly string[] }
  | { readonly kind: "list" | "map"; readonly items: Shape }
  | { readonly kind: "object"; readonly properties: readonly ShapedProperty[] };

/** A property with all that is generated from it. */
export interface ShapedProperty {
  readonly name: string;
  readonly shape: Shape;
  readonly description: string;
  readonly secret: boolean;
  readonly replaces: boolean;
  /** A program may leave it out. */
  readonly optional: boolean;
  /** It can be absent from the state. */
  readonly nullable: boolean;
  readonly defaultValue?: unknown;
}

/** A resource kind with everything in the form in which it is generated. */
export interface ShapedResource {
  readonly type: string;
  readonly module: string;
  readonly name: string;
  readonly description: string;
  readonly example: string;
  readonly connection: ConnectionDefinition | undefined;
  readonly inputs: readonly ShapedProperty[];
  /** What the state holds besides the inputs and the connection. */
  readonly outputs: readonly ShapedProperty[];
  readonly secrets: readonly string[];
}

const accountProperty: ShapedProperty = {
  name: "account",
  shape: { kind: "string" },
  description: "The account that holds the resource, without credentials.",
  secret: false,
  replaces: false,
  optional: false,
  nullable: false,
};

export function shapeResource(resource: AnyResource): ShapedResource {
  const [module = "", name = ""] = resource.type.split(":");
  return {
    type: resource.type,
    module,
    name,
    description: resource.description,
    example: resource.example,
    connection: resource.connection,
    inputs: shapeProperties(resource.inputs),
    outputs: [...shapeProperties(resource.outputs), ...(resource.connection ? [accountProperty] : [])],
    secrets: secretNames(resource),
  };
}

/** The properties of an object schema, with empty descriptions where it has none. */
export function shapeProperties(object: z.ZodObject | undefined): readonly ShapedProperty[] {
  return propertiesOf(object).map(({ name, schema, marks, optional }) => {
    return {
      name,
      shape: shapeOf(schema),
      description: marks.description ?? "",
      secret: marks.secret ?? false,
      replaces: marks.replaces ?? false,
      optional,
      nullable: marks.unmanaged ?? z.safeParse(schema, null).success,
      defaultValue: defaultOf(schema),
    };
  });
}

/** The default as the definition writes it: what a transformation makes of it may depend on the machine. */
function defaultOf(schema: z.core.$ZodType): unknown {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if (def.type === "default" || def.type === "prefault") return def.defaultValue;
  if (def.type === "pipe") return defaultOf(def.in);
  return "innerType" in def ? defaultOf(def.innerType) : undefined;
}

function shapeOf(schema: z.core.$ZodType): Shape {
  const type = schema as z.core.$ZodTypes;
  const { def } = type._zod;
  switch (def.type) {
    case "string":
    case "boolean":
      return { kind: def.type };
    case "number":
      return { kind: "format" in def && /int/.test(String(def.format)) ? "integer" : "number" };
    case "enum":
      return { kind: "choice", values: Object.values(def.entries).map(String) };
    case "literal":
      return { kind: "choice", values: def.values.map(String) };
    case "array":
      return { kind: "list", items: shapeOf(def.element) };
    case "record":
      return { kind: "map", items: shapeOf(def.valueType) };
    case "object":
      return { kind: "object", properties: shapeProperties(schema as z.ZodObject) };
    case "pipe":
      // What follows a transformation says more than what goes into it, unless it is nothing but the transformation.
      return shapeOf((def.out as z.core.$ZodTypes)._zod.def.type === "transform" ? def.in : def.out);
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "readonly":
      return shapeOf(def.innerType);
    case "lazy":
    case "unknown":
    case "union":
      return { kind: "any" };
    default:
      throw new Error(`A property of zod's type "${def.type}" has no form in a Pulumi schema`);
  }
}

/** The package's schema for Pulumi: `pulumi package get-schema`, the SDKs of other languages, the registry. */
export function createPackageSchema(apis: readonly ApiDefinition[], version: string): object {
  const resources = apis.flatMap((api) => api.resources.map(shapeResource));
  const connections = [...new Set(resources.flatMap(({ connection }) => connection ?? []))];
  return {
    name: "hookplane",
    displayName: "Hookplane",
    version,
    description:
      "Webhooks as code: callbacks and webhook endpoints at PAVE, Twilio, Casey and Svix-compatible services.",
    keywords: ["pulumi", "category/infrastructure", "kind/native", "webhooks"],
    license: "Apache-2.0",
    config: { variables: Object.fromEntries(connections.flatMap(configVariables)) },
    types: Object.fromEntries([...connections.flatMap(connectionTypes), ...resources.flatMap(resourceTypes)]),
    provider: {
      description: "The accounts to use where a resource names none.",
      inputProperties: Object.fromEntries(connections.flatMap(configVariables)),
    },
    resources: Object.fromEntries(
      resources.map((resource) => [`hookplane:${resource.type}`, resourceSpec(resource)]),
    ),
    language: {
      nodejs: { packageName: "hookplane" },
      python: { packageName: "hookplane", pyproject: { enabled: true } },
      go: { generateResourceContainerTypes: true },
    },
  };
}

/** The name of a connection's type: `PaveConnection`. */
export function connectionTypeName({ name }: ConnectionDefinition): string {
  return `${name.charAt(0).toUpperCase()}${name.slice(1)}Connection`;
}

function connectionTypes(connection: ConnectionDefinition): [string, object][] {
  const description = `${connection.title} account: where it is and how to authenticate.`;
  return objectTypes(connectionTypeName(connection), shapeProperties(connection.schema), description);
}

function resourceTypes({ name, inputs, outputs }: ShapedResource): [string, object][] {
  return [...inputs, ...outputs].flatMap((property) => nestedTypes(name, property));
}

/** An object type and those within it: Pulumi has no objects without a name. */
function objectTypes(
  name: string,
  properties: readonly ShapedProperty[],
  description: string,
): [string, object][] {
  const type = {
    type: "object",
    description,
    properties: Object.fromEntries(properties.map((property) => [property.name, inputSpec(property, name)])),
    required: required(properties),
  };
  return [[tokenOf(name), type], ...properties.flatMap((property) => nestedTypes(name, property))];
}

function nestedTypes(owner: string, { name, shape, description }: ShapedProperty): [string, object][] {
  const inner = shape.kind === "list" || shape.kind === "map" ? shape.items : shape;
  return inner.kind === "object" ? objectTypes(typeNameOf(owner, name), inner.properties, description) : [];
}

function typeNameOf(owner: string, property: string): string {
  return `${owner}${property.charAt(0).toUpperCase()}${property.slice(1)}`;
}

function tokenOf(typeName: string): string {
  return `hookplane:index:${typeName}`;
}

function configVariables(connection: ConnectionDefinition): [string, object][] {
  return connectionSettings(connection).map(({ field, key, description, variables }) => {
    const property = connection.schema.shape[field] as z.core.$ZodType | undefined;
    return [
      key,
      {
        type: "string",
        description: `${connection.title}: ${description} Environment: ${variables.map((name) => `\`${name}\``).join(" or ")}.`,
        ...(property && marksOf(property).secret ? { secret: true } : {}),
      },
    ];
  });
}

function resourceSpec({ connection, inputs, outputs, ...resource }: ShapedResource): object {
  const own = connection && {
    connection: {
      $ref: `#/types/${tokenOf(connectionTypeName(connection))}`,
      description: connectionDescription(connection),
      secret: true,
    },
  };
  return {
    description: `${resource.description}\n\n## Example\n\n\`\`\`typescript\n${resource.example.trim()}\n\`\`\`\n`,
    properties: {
      ...Object.fromEntries(
        [...inputs, ...outputs].map((property) => [property.name, outputSpec(property, resource.name)]),
      ),
      ...own,
    },
    required: [...inputs, ...outputs].filter(({ nullable }) => !nullable).map(({ name }) => name),
    inputProperties: {
      ...Object.fromEntries(inputs.map((property) => [property.name, inputSpec(property, resource.name)])),
      ...own,
    },
    requiredInputs: required(inputs),
  };
}

/** The doc comment of the input that every kind with an account has. */
export function connectionDescription({ title }: ConnectionDefinition): string {
  return `The ${title} account to use instead of the configured one. Another account replaces the resource; other credentials of the same one do not touch it. Always secret.`;
}

function required(properties: readonly ShapedProperty[]): string[] {
  return properties.filter(({ optional }) => !optional).map(({ name }) => name);
}

function outputSpec({ name, shape, description, secret }: ShapedProperty, owner: string): object {
  return { ...typeSpec(shape, typeNameOf(owner, name)), description, ...(secret ? { secret } : {}) };
}

function inputSpec(property: ShapedProperty, owner: string): object {
  const { defaultValue, replaces } = property;
  return {
    ...outputSpec(property, owner),
    ...(isPrimitive(defaultValue) ? { default: defaultValue } : {}),
    ...(replaces ? { willReplaceOnChanges: true } : {}),
  };
}

function isPrimitive(value: unknown): value is string | number | boolean {
  return ["string", "number", "boolean"].includes(typeof value);
}

/** `typeName` is that of the object type within, if there is one. */
function typeSpec(shape: Shape, typeName: string): object {
  switch (shape.kind) {
    case "choice":
      return { type: "string" };
    case "any":
      return { $ref: "pulumi.json#/Any" };
    case "list":
      return { type: "array", items: typeSpec(shape.items, typeName) };
    case "map":
      return { type: "object", additionalProperties: typeSpec(shape.items, typeName) };
    case "object":
      return { $ref: `#/types/${tokenOf(typeName)}` };
    default:
      return { type: shape.kind };
  }
}
