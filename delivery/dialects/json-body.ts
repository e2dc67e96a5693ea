import type { FastifyInstance } from "fastify";

/** Lets an instance's routes read JSON, and nothing else. A request that declares JSON and has no body has none. */
export function readJsonBodies(instance: FastifyInstance): void {
  const parse = instance.getDefaultJsonParser("error", "error");
  instance.removeAllContentTypeParsers();
  instance.addContentTypeParser<string>("application/json", { parseAs: "string" }, (request, body, done) => {
    if (body === "") done(null, undefined);
    else void parse(request, body, done);
  });
}
