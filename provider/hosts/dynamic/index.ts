import type { dynamic } from "@pulumi/pulumi";
import { findResource } from "../../apis/index.ts";
import { createSettings, requestLimits } from "../../config.ts";
import { createHttpClient } from "../../http/client.ts";
import { createLifecycle, InitFailedError, type Properties } from "../../lifecycle.ts";
import { secretNames } from "../../marks.ts";
import { logToEngine } from "./engine-log.ts";
import { fromWire, providerProperty, toWire } from "./wire.ts";

/**
 * The provider of one resource type for Pulumi's dynamic provider process. Each resource carries a constant text that
 * requires this very function (see `handlerOf`), so the code that runs is always that of the installed package, and it must
 * read the state that older versions wrote. Nothing here, nor in what it imports, may await at the top level: `require`
 * cannot load that.
 */
export function provider(type: string): dynamic.ResourceProvider<Properties, Properties> {
  const resource = findResource(type);
  const secrets = secretNames(resource);
  const signal = new AbortController().signal;
  let settings = createSettings();
  const lifecycle = createLifecycle(resource, {
    settings: { get: (key) => settings.get(key), environment: (name) => settings.environment(name) },
    // The settings come later than this; the connections are the process's, so a client costs nothing.
    http: { api: (api) => createHttpClient({ signal, limits: requestLimits(settings) }).api(api) },
    signal,
    log: logToEngine,
    now: Date.now,
  });

  return {
    // Pulumi does not let concurrent calls wait for this, so it is done before it gives way to any of them.
    async configure({ config }) {
      settings = createSettings((key) => config.get(`hookplane:${key}`));
    },

    async check(_olds, news) {
      const { inputs, failures } = lifecycle.check(fromWire(news));
      // Beside a property that it is given the engine prints the value, secret or not: the name stands in the reason instead.
      const told = failures.map(({ property, reason }) => ({
        property: "",
        reason: `${property}: ${reason}`,
      }));
      return { inputs: toWire(inputs), failures: told };
    },

    diff: (id, olds, news) =>
      told(news, async () => {
        const { action, replaces, deleteBeforeReplace } = await lifecycle.diff(
          id,
          fromWire(olds),
          fromWire(news),
        );
        return { changes: action !== "none", replaces: [...replaces], deleteBeforeReplace };
      }),

    create: (inputs) =>
      told(inputs, async () => {
        const { id, state } = await lifecycle.create(fromWire(inputs));
        return { id, outs: toWire(state, secrets) };
      }),

    read: (id, state) =>
      told(state, async () => {
        const found = await lifecycle.read(id, fromWire(state));
        if (!found) return { id: "" };
        return { id: found.id, props: toWire(found.state, secrets), inputs: toWire(found.inputs, secrets) };
      }),

    update: (id, olds, news) =>
      told(news, async () => {
        const { state } = await lifecycle.update(id, fromWire(olds), fromWire(news));
        return { outs: toWire(state, secrets) };
      }),

    delete: (id, state) => told(state, () => lifecycle.delete(id, fromWire(state))),
  };

  /** Pulumi prints an error's stack beside its message, and keeps what was half made where the error says it. */
  async function told<T>(properties: Properties | undefined, operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      if (error instanceof Error) error.stack = "";
      if (!(error instanceof InitFailedError)) throw error;
      // Unlike a result, an error does not get the provider back by itself.
      const kept = { [providerProperty]: properties?.[providerProperty] };
      throw Object.assign(error, {
        id: error.made.id,
        properties: { ...toWire(error.made.state, secrets), ...kept },
        reasons: [error.message],
      });
    }
  }
}
