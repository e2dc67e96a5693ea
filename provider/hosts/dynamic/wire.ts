import { replaceDeep, unknown } from "../../unknown.ts";

/** How Pulumi's dynamic providers get and give values: pulumi/pulumi, sdk/nodejs/runtime/rpc.ts. */
const unknownMark = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const signatureKey = "4dabf18193072939515e22adb298388d";
const secretSignature = "1b47061264138c4ac30d75fd1eb44270";

/** The property that carries the provider, in every resource's inputs and outputs. */
export const providerProperty = "__provider";

type Properties = Readonly<Record<string, unknown>>;

/** Properties as the core works with them. Absent ones, for which some calls send nothing at all, are none. */
export function fromWire(properties: Properties | undefined): Properties {
  const { [providerProperty]: _, ...own } = properties ?? {};
  return replaceDeep(own, unknownMark, unknown) as Properties;
}

/** Properties as Pulumi takes them, the named ones as secrets. */
export function toWire(properties: Properties, secrets: readonly string[] = []): Record<string, unknown> {
  const plain = replaceDeep(properties, unknown, unknownMark) as Record<string, unknown>;
  const sealed = secrets
    .filter((name) => name in plain)
    .map((name) => [name, { [signatureKey]: secretSignature, value: plain[name] }]);
  return { ...plain, ...(Object.fromEntries(sealed) as Record<string, unknown>) };
}
