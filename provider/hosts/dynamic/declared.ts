import * as pulumi from "@pulumi/pulumi";
import { providerProperty } from "./wire.ts";

/** What a class of `generated/` knows of its resource kind. */
export interface Kind {
  /** Such as `pave:Callback`. */
  readonly type: string;
  /** Every output, so that it is there, as an unknown value, in a preview too. */
  readonly properties: readonly string[];
  /** Inputs and outputs that are encrypted in the state. */
  readonly secrets: readonly string[];
}

/**
 * A resource that a program declares, carried out by the dynamic provider of the installed package: no plugin, and nothing
 * of the program is serialized. The base of every class that the package exports.
 */
export abstract class DeclaredResource extends pulumi.CustomResource {
  /** The account that holds it, without credentials: base URL and account. Undefined for a kind that has none. */
  declare readonly account: pulumi.Output<string>;

  /** @internal */
  protected constructor(kind: Kind, name: string, args: object, options: pulumi.CustomResourceOptions = {}) {
    const inputs = Object.entries(args)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [
        key,
        kind.secrets.includes(key) ? pulumi.secret(value as unknown) : (value as unknown),
      ]);
    const outputs = ["account", ...kind.properties].map((key) => [key, undefined]);
    super(
      `pulumi-nodejs:dynamic/${kind.type}`,
      name,
      {
        ...Object.fromEntries([...outputs, ...inputs]),
        [providerProperty]: handlerOf(kind.type),
      } as pulumi.Inputs,
      pulumi.mergeOptions({ additionalSecretOutputs: [...kind.secrets] }, options),
    );
  }
}

/** The constant text by which Pulumi's dynamic provider process finds the provider of a type. */
export function handlerOf(type: string): string {
  return `exports.handler=()=>require("hookplane/dynamic").provider(${JSON.stringify(type)})`;
}
