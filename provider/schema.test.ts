import fs from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { generate } from "../scripts/generate.ts";
import { apis } from "./apis/index.ts";
import { propertiesOf } from "./marks.ts";
import { shapeResource } from "./schema.ts";

const root = path.resolve(import.meta.dirname, "..");
const resources = apis.flatMap((api) => api.resources);

interface Spec {
  readonly properties?: Record<string, object>;
  readonly inputProperties?: Record<string, object>;
  readonly required?: readonly string[];
  readonly requiredInputs?: readonly string[];
}

describe("what is generated from the definitions", () => {
  test("is what is committed", async () => {
    for (const [name, text] of await generate()) {
      expect(fs.readFileSync(path.join(root, name), "utf8"), `${name}: run npm run generate`).toBe(text);
    }
  });

  test("refers only to types and properties that are there", async () => {
    const schema = JSON.parse((await generate()).get("schema.json") ?? "") as {
      types: Record<string, Spec>;
      resources: Record<string, Spec>;
    };
    const references = JSON.stringify(schema).matchAll(/"\$ref":"#\/types\/([^"]+)"/g);
    for (const [, type = ""] of references) expect(Object.keys(schema.types)).toContain(type);
    for (const spec of [...Object.values(schema.resources), ...Object.values(schema.types)]) {
      for (const name of spec.required ?? []) expect(Object.keys(spec.properties ?? {})).toContain(name);
      for (const name of spec.requiredInputs ?? [])
        expect(Object.keys(spec.inputProperties ?? {})).toContain(name);
    }
    expect(Object.keys(schema.resources)).toEqual(resources.map(({ type }) => `hookplane:${type}`));
  });
});

describe.each(resources.map((resource) => [resource.type, resource] as const))("%s", (_type, resource) => {
  test("describes every input and output for the editor", () => {
    for (const { name, marks } of [...propertiesOf(resource.inputs), ...propertiesOf(resource.outputs)]) {
      expect(marks.description, name).toMatch(/[.!?]$/);
    }
  });

  test("has an example that imports the package", () => {
    const { name, example } = shapeResource(resource);
    expect(example).toContain('import * as hookplane from "hookplane";');
    expect(example).toContain(`${name}(`);
  });

  test("has a test of its own beside it", () => {
    const [module = "", name = ""] = resource.type.split(":");
    const folder = module === "index" ? "hookplane" : module;
    const files = fs.readdirSync(path.join(root, "provider", "apis", folder));
    const kebab = name.replace(/(?!^)[A-Z]/g, "-$&").toLowerCase();
    expect(files).toContain(`${kebab}.test.ts`);
  });
});
