import { STATUS_CODES } from "node:http";
import type { FastifyInstance, RouteOptions } from "fastify";
import { z } from "zod";
import type { Access } from "../core/caller.ts";
import type { ApiDocumentation, JsonSchema, Operation, SecurityScheme } from "../operation.ts";
import { errorOut, validationErrorOut } from "./errors.ts";
import { OpenApiShapes } from "./openapi-shapes.ts";
import type { ServerContext } from "./server.ts";

/** An OpenAPI document, as JSON. */
export interface OpenApiDocument {
  readonly openapi: string;
  readonly info: Readonly<Record<string, unknown>>;
  readonly servers: readonly { readonly url: string }[];
  readonly tags: readonly { readonly name: string }[];
  /** The operations of each path, by method in lower case. */
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonSchema>>;
    readonly responses: Readonly<Record<string, ResponseObject>>;
    readonly headers: Readonly<Record<string, unknown>>;
    readonly securitySchemes: Readonly<Record<string, SecurityScheme>>;
  };
}

export interface OperationObject {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  readonly parameters?: readonly ParameterObject[];
  readonly requestBody?: { readonly required: boolean; readonly content: Content };
  readonly responses: Readonly<Record<string, ResponseObject | Reference>>;
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
}

interface ParameterObject {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonSchema;
}

export interface ResponseObject {
  readonly description: string;
  readonly headers?: Readonly<Record<string, Reference>>;
  readonly content?: Content;
}

type Content = Readonly<Record<string, { readonly schema?: JsonSchema }>>;

interface Reference {
  readonly $ref: string;
}

const title = "Hookplane delivery service";
const description =
  "Accepts events and delivers them, signed and retried, to webhook endpoints. /api/v1 is compatible with Svix's API; the " +
  "vendors' own management APIs are beside it. Each GET may be asked with HEAD too, and a path may end with a slash.";

/** What the Svix-compatible API and the service's own routes have in common. */
const ownApi: ApiDocumentation = {
  security: {
    token: {
      type: "http",
      scheme: "bearer",
      description: "The administrator's token, an organization's, or one that is limited to one application.",
    },
  },
  errors: { "422": validationErrorOut, "4XX": errorOut, "5XX": errorOut },
};

const ownOperation: Operation = {
  summary: "Get this document",
  tag: "Health",
  isOpen: true,
  answers: { 200: z.record(z.string(), z.unknown()) },
};

/**
 * Serves the document of all routes of the server at `/openapi.json`, to everybody: it is made of the routes and of the
 * shapes that they read and answer by, and knows nothing of what the service holds. To be called before there are routes.
 */
export function registerOpenApi(server: FastifyInstance, context: ServerContext): void {
  const routes: RouteOptions[] = [];
  server.addHook("onRoute", (route) => {
    routes.push(route);
  });
  let text: string | undefined;
  server.get("/openapi.json", { config: { operation: ownOperation } }, async (_request, reply) => {
    text ??= JSON.stringify(createDocument(routes, context));
    return reply.type("application/json; charset=utf-8").send(text);
  });
}

/** @throws Error for a route that says nothing of itself, and for two shapes of one name */
function createDocument(registered: readonly RouteOptions[], context: ServerContext): OpenApiDocument {
  const { accounts, version } = context;
  const routes = toDocumented(registered);
  const shapes = new OpenApiShapes();
  const paths: Record<string, Record<string, OperationObject>> = {};
  const responses: Record<string, ResponseObject> = {};
  const securitySchemes: Record<string, SecurityScheme> = {};
  for (const route of routes) {
    const account = accounts.find(({ account: { prefix } }) => route.path.startsWith(`${prefix}/`))?.account;
    const { security, errors } = account?.documentation ?? ownApi;
    const errorRefs: Record<string, Reference> = {};
    for (const [status, shape] of Object.entries(errors)) {
      if (!mayAnswer(route.operation, status)) continue;
      const id = `${account?.title ?? ""}Error${status}`;
      responses[id] ??= toErrorResponse(status, shapes.convert(shape, "output"));
      errorRefs[status] = { $ref: `#/components/responses/${id}` };
    }
    if (!route.operation.isOpen) Object.assign(securitySchemes, security);
    const item = (paths[route.path.replaceAll(/:(\w+)/g, "{$1}")] ??= {});
    item[route.method] = {
      ...toOperation(route, shapes),
      responses: { ...toResponses(route.operation, shapes), ...errorRefs },
      security: route.operation.isOpen ? [] : [mapValues(security, () => [])],
    };
  }
  const tags = [...new Set(routes.map(({ operation }) => operation.tag))].toSorted();
  return {
    openapi: "3.1.0",
    info: { title, version, description, license: { name: "Apache License 2.0", identifier: "Apache-2.0" } },
    servers: [{ url: context.publicUrl() }],
    tags: tags.map((name) => ({ name })),
    paths: sorted(paths),
    components: {
      schemas: sorted(shapes.named),
      responses: sorted(responses),
      headers: {
        RetryAfter: {
          description: "Seconds until another try makes sense, where one does.",
          schema: { type: "integer", minimum: 0 },
        },
      },
      securitySchemes: sorted(securitySchemes),
    },
  };
}

/** A route and what it says of itself. */
interface DocumentedRoute {
  /** In lower case. */
  readonly method: string;
  /** With its prefix, and its parameters as `:name`. */
  readonly path: string;
  /** What it asks of its caller; undefined for one that is not behind `authenticate`. */
  readonly access: Access | undefined;
  readonly operation: Operation;
  /** Unique in the document. */
  readonly operationId: string;
}

function toDocumented(registered: readonly RouteOptions[]): DocumentedRoute[] {
  const gets = new Set(
    registered.filter(({ method }) => [method].flat().includes("GET")).map(({ url }) => url),
  );
  return registered.flatMap(({ method, url, config }) => {
    const methods = [method].flat().filter((name) => name !== "HEAD" || !gets.has(url));
    return methods.map((name) => {
      if (config?.operation === undefined) throw new Error(`${name} ${url} does not say what it is for`);
      const { access, operation } = config;
      const operationId = toOperationId(operation.summary) + (methods.length > 1 ? capitalized(name) : "");
      return { method: name.toLowerCase(), path: url, access, operation, operationId };
    });
  });
}

/** `Rotate an endpoint's secret` is `rotateEndpointSecret`. */
function toOperationId(summary: string): string {
  const words = summary
    .replaceAll("'s ", " ")
    .split(/[^A-Za-z0-9]+/)
    .filter((word) => !["", "a", "an", "the", "of", "its", "this"].includes(word));
  return words.map((word, at) => (at === 0 ? word.toLowerCase() : capitalized(word))).join("");
}

function capitalized(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1).toLowerCase();
}

function toOperation(
  { path, access, operation, operationId }: DocumentedRoute,
  shapes: OpenApiShapes,
): Omit<OperationObject, "responses" | "security"> {
  const { summary, tag, description, query, body, bodyType = "application/json", isRepeatable } = operation;
  const parameters = [
    ...toPathParameters(path),
    ...(query === undefined ? [] : toQueryParameters(shapes.convert(query, "input"))),
    ...(isRepeatable === true ? [idempotencyKey] : []),
  ];
  const [shape] = [body].flat();
  const text = [description, accessText(access)].filter((part) => part !== undefined).join(" ");
  return {
    operationId,
    summary,
    ...(text !== "" && { description: text }),
    tags: [tag],
    ...(parameters.length > 0 && { parameters }),
    ...(shape !== undefined && {
      requestBody: {
        required: !shape.safeParse(undefined).success,
        content: { [bodyType]: { schema: shapes.convert(shape, "input") } },
      },
    }),
  };
}

function accessText(access: Access | undefined): string | undefined {
  switch (access) {
    case undefined:
      return undefined;
    case "admin":
      return "For the administrator's token.";
    case "organization":
      return "For tokens of the organization.";
    default:
      return `For tokens of the organization, and those of one application that have the capability ${access}.`;
  }
}

const idempotencyKey: ParameterObject = {
  name: "Idempotency-Key",
  in: "header",
  required: false,
  description:
    "The same request with the same key does its work once, and gets the first answer again for 12 hours.",
  schema: { type: "string" },
};

/** What stands in a path behind a segment of this name. */
const parameterTexts: Readonly<Record<string, string>> = {
  app: "The application's id or uid.",
  "app-portal-access": "The application's id or uid.",
  endpoint: "The endpoint's id or uid.",
  msg: "The message's id or event id.",
  attempt: "The attempt's id.",
  "event-type": "The event type's name.",
  "background-task": "The task's id.",
  organization: "The organization's id.",
  token: "The token's id.",
  inbox: "The inbox's name: any.",
  callbacks: "The callback's event.",
  webhooks: "The webhook's id.",
};

function toPathParameters(path: string): ParameterObject[] {
  return [...path.matchAll(/([^/]+)\/:(\w+)/g)].map(([, before = "", name = ""]) => {
    const text = parameterTexts[before];
    return {
      name,
      in: "path",
      required: true,
      ...(text !== undefined && { description: text }),
      schema: { type: "string", minLength: 1 },
    };
  });
}

function toQueryParameters({ properties = {}, required = [] }: JsonSchema): ParameterObject[] {
  return Object.entries(properties).map(([name, property]) => {
    const { description: text, ...schema } = property as JsonSchema;
    return {
      name,
      in: "query",
      required: required.includes(name),
      ...(text !== undefined && { description: text }),
      schema,
    };
  });
}

function toResponses({ answers }: Operation, shapes: OpenApiShapes): Record<string, ResponseObject> {
  return mapValues(answers, (shape, status) => ({
    description: STATUS_CODES[status] ?? "Any other status.",
    ...(shape !== null && {
      content:
        typeof shape === "string"
          ? { [shape]: {} }
          : { "application/json": { schema: shapes.convert(shape, "output") } },
    }),
  }));
}

const errorTexts: Readonly<Record<string, string>> = {
  "422": "All that is wrong with the request, each with its place.",
  "4XX": "Why the request is refused. 429 says when to try again.",
  "5XX": "The service cannot answer now. 503 says when to try again.",
};

/** Faults are found in bodies and queries alone; a route that may answer anything says so itself. */
function mayAnswer({ body, query, answers }: Operation, status: string): boolean {
  if ("default" in answers) return false;
  return status !== "422" || body !== undefined || query !== undefined;
}

function toErrorResponse(status: string, schema: JsonSchema): ResponseObject {
  return {
    description: errorTexts[status] ?? "The request is refused.",
    ...(status.endsWith("XX") && {
      headers: { "Retry-After": { $ref: "#/components/headers/RetryAfter" } },
    }),
    content: { "application/json": { schema } },
  };
}

function mapValues<T, Out>(
  members: Readonly<Record<string, T>>,
  map: (value: T, name: string) => Out,
): Record<string, Out> {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [name, map(value, name)]));
}

function sorted<T>(members: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(members).toSorted(([left], [right]) => (left < right ? -1 : 1)));
}
