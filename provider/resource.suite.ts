import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HookplaneError } from "./errors.ts";
import { createHttpClient, type HttpClient } from "./http/client.ts";
import { openVendorServer } from "./http/vendor-server.suite.ts";
import { createLifecycle, type Host, type Lifecycle, type Properties } from "./lifecycle.ts";
import { propertiesOf, secretNames } from "./marks.ts";
import type { AnyResource } from "./resource.ts";
import { startService, type RunningService } from "./service.suite.ts";
import { unknown } from "./unknown.ts";

/** What the contract suite needs to know of a resource kind. */
export interface ResourceSubject {
  readonly resource: AnyResource;
  /** The account at a running service. */
  connection(service: RunningService): Properties;
  /** The same account with credentials that are wrong, each at least 8 characters long. */
  readonly wrongCredentials: Properties;
  /** A declaration with every input given, free of defaults, so that each can be changed and cleared. */
  readonly declared: Properties;
  /** For every input another value than the declared one. */
  readonly changed: Properties;
  /** Declarations of every kind, at most one of which exists at a time. */
  readonly declarations: fc.Arbitrary<Properties>;
  /** The object is there before create and after delete. */
  readonly isSingleton?: boolean;
}

/** A host without configuration, environment or console. */
export function createTestHost(parts: Partial<Host> = {}): Host {
  const { signal } = new AbortController();
  return {
    settings: { get: () => undefined, environment: () => undefined },
    http: createHttpClient({ limits: { baseDelayMs: 1, maxAttempts: 2 } }),
    signal,
    log: () => undefined,
    now: Date.now,
    ...parts,
  };
}

const noHttp: HttpClient = {
  api: () => {
    throw new Error("a request was sent");
  },
};

/**
 * What every resource kind promises, run against the real service. A kind's own test file calls this and adds what only that
 * kind does.
 */
export function testResource(subject: ResourceSubject): void {
  const { resource } = subject;
  const inputs = propertiesOf(resource.inputs);
  const sent = inputs.filter(({ marks }) => !marks.local);
  const inPlace = sent.filter(({ marks }) => !marks.replaces).map(({ name }) => name);
  const replacing = sent.filter(({ marks }) => marks.replaces).map(({ name }) => name);
  const local = inputs.filter(({ marks }) => marks.local).map(({ name }) => name);

  describe(`${resource.type} keeps the contract of every resource`, () => {
    const lifecycle = createLifecycle(resource, createTestHost());
    let service: RunningService;
    let connection: Properties;

    beforeAll(async () => {
      service = await startService();
      connection = subject.connection(service);
    });
    afterAll(() => service[Symbol.asyncDispose]());

    const declare = (values: Properties): Properties => {
      const { inputs: checked, failures } = lifecycle.check({ ...values, connection });
      expect(failures).toEqual([]);
      return checked;
    };

    /** Makes it, hands it over, and removes it whatever happens. */
    async function withResource(
      values: Properties,
      use: (made: { id: string; state: Properties; inputs: Properties }) => Promise<void>,
    ): Promise<void> {
      const declared = declare(values);
      const { id, state } = await lifecycle.create(declared);
      try {
        await use({ id, state, inputs: declared });
      } finally {
        await lifecycle.delete(id, state);
      }
    }

    async function find(from: Lifecycle, id: string, state: Properties) {
      const found = await from.read(id, state);
      if (!found) throw new Error(`${resource.type} "${id}" is not there`);
      return found;
    }

    test("what was created reads back as declared, and neither preview nor refresh shows a change", async () => {
      await withResource(subject.declared, async ({ id, state, inputs }) => {
        expect((await lifecycle.diff(id, state, inputs)).changes).toEqual({});
        const found = await find(lifecycle, id, state);
        expect(found.state).toEqual(state);
        expect(found.inputs).toEqual(inputs);
        expect((await lifecycle.diff(id, found.state, inputs)).changes).toEqual({});
      });
    });

    test("any declaration reads back without a difference", async () => {
      await fc.assert(
        fc.asyncProperty(subject.declarations, (values) =>
          withResource(values, async ({ id, state, inputs }) => {
            const found = await find(lifecycle, id, state);
            expect((await lifecycle.diff(id, found.state, inputs)).changes).toEqual({});
            expect(found.state).toEqual(state);
          }),
        ),
        { numRuns: 25 },
      );
    });

    test.for(inPlace)("%s changed outside is found by a refresh and repaired by an update", async (name) => {
      await withResource(subject.declared, async ({ id, state, inputs }) => {
        await lifecycle.update(id, state, declare({ ...subject.declared, [name]: subject.changed[name] }));

        const drifted = await find(lifecycle, id, state);
        expect(drifted.state[name]).toEqual(subject.changed[name]);
        expect(drifted.inputs[name]).toEqual(subject.changed[name]);
        const diff = await lifecycle.diff(id, drifted.state, inputs);
        expect(diff).toMatchObject({ action: "update", properties: [name] });

        const repaired = await lifecycle.update(id, drifted.state, inputs);
        expect(repaired.state).toEqual(state);
        expect((await find(lifecycle, id, repaired.state)).state).toEqual(state);
      });
    });

    test.for(replacing)("a change of %s takes a new object", async (name) => {
      await withResource(subject.declared, async ({ id, state }) => {
        const changed = declare({ ...subject.declared, [name]: subject.changed[name] });
        const diff = await lifecycle.diff(id, state, changed);
        expect(diff).toMatchObject({ action: "replace", replaces: [name] });
      });
    });

    test.for(local)("a change of %s changes the state without a request", async (name) => {
      await withResource(subject.declared, async ({ id, state }) => {
        const changed = declare({ ...subject.declared, [name]: subject.changed[name] });
        expect(await lifecycle.diff(id, state, changed)).toMatchObject({
          action: "update",
          properties: [name],
        });
        const offline = createLifecycle(resource, createTestHost({ http: noHttp }));
        const moved = await offline.update(id, state, changed);
        expect(moved.state).toEqual({ ...state, [name]: subject.changed[name] });
        expect((await lifecycle.diff(id, moved.state, changed)).action).toBe("none");
      });
    });

    test("an import by id takes it over without a change", async () => {
      await withResource(subject.declared, async ({ id, inputs }) => {
        const imported = await find(lifecycle, id, { connection });
        expect((await lifecycle.diff(id, imported.state, inputs)).replaces).toEqual([]);
        const again = declare(imported.inputs);
        expect((await lifecycle.diff(id, imported.state, again)).changes).toEqual({});
      });
    });

    testWhere(!subject.isSingleton)("an import of what is not there says so", async () => {
      const missing = lifecycle.read("no-such-id", { connection });
      if (resource.list) await expect(missing).rejects.toMatchObject({ code: "not_found" });
      else expect(await missing).toBeUndefined();
    });

    testWhere(resource.connection)(
      "while the service on this machine that holds it is down, it is taken to be as it was, with a warning",
      async () => {
        const told: string[] = [];
        const log: Host["log"] = (severity, message) => told.push(`${severity}: ${message}`);
        const host = createLifecycle(resource, createTestHost({ log }));
        await withResource(subject.declared, async ({ id, state }) => {
          const url = await addressOfNobody();
          const down = { ...state, connection: { ...connection, url } };
          expect((await find(host, id, down)).state).toEqual(down);
          expect(told).toEqual([expect.stringMatching(/^warning: .* is taken to be as it was/)]);
          await expect(host.read(id, { connection: down.connection })).rejects.toMatchObject({
            code: "unreachable",
          });
          await expect(host.delete(id, down)).rejects.toMatchObject({ code: "unreachable" });
        });
      },
    );

    test("a second delete succeeds, and what was deleted reads as gone", async () => {
      const { id, state } = await lifecycle.create(declare(subject.declared));
      await lifecycle.delete(id, state);
      if (!subject.isSingleton) expect(await lifecycle.read(id, state)).toBeUndefined();
      await lifecycle.delete(id, state);
    });

    testWhere(inPlace.length > 0 && !subject.isSingleton)(
      "an update of what was deleted outside says how to make it again",
      async () => {
        const { id, state } = await lifecycle.create(declare(subject.declared));
        await lifecycle.delete(id, state);
        const [name = ""] = inPlace;
        const changed = declare({ ...subject.declared, [name]: subject.changed[name] });
        await expect(lifecycle.update(id, state, changed)).rejects.toMatchObject({ code: "gone" });
      },
    );

    test.for(inputs.map(({ name }) => name))("a preview in which %s is not known yet works", async (name) => {
      await withResource(subject.declared, async ({ id, state }) => {
        for (const value of [unknown, [unknown], { nested: unknown }]) {
          const preview = declare({ ...subject.declared, [name]: value });
          const diff = await lifecycle.diff(id, state, preview);
          expect(diff.properties).toContain(name);
        }
      });
    });

    testWhere(resource.connection)("a preview in which the account is not known yet works", async () => {
      await withResource(subject.declared, async ({ id, state }) => {
        for (const value of [unknown, { ...connection, url: unknown }]) {
          const { inputs: preview, failures } = lifecycle.check({ ...subject.declared, connection: value });
          expect(failures).toEqual([]);
          expect(await lifecycle.diff(id, state, preview)).toMatchObject({
            action: "update",
            properties: ["connection"],
          });
        }
      });
    });

    testWhere(resource.connection)(
      "another account replaces it, other credentials only change the state",
      async () => {
        await withResource(subject.declared, async ({ id, state, inputs }) => {
          const elsewhere = { ...inputs, connection: { ...connection, url: "http://127.0.0.1:9/elsewhere" } };
          expect(await lifecycle.diff(id, state, elsewhere)).toMatchObject({
            action: "replace",
            replaces: ["connection"],
            deleteBeforeReplace: false,
          });

          const rotated = { ...inputs, connection: { ...connection, ...subject.wrongCredentials } };
          expect(await lifecycle.diff(id, state, rotated)).toMatchObject({ action: "update", replaces: [] });
          const offline = createLifecycle(resource, createTestHost({ http: noHttp }));
          const moved = await offline.update(id, state, rotated);
          expect(moved.state).toEqual({ ...state, connection: rotated.connection });
        });
      },
    );

    testWhere(resource.connection)(
      "refused credentials are named as such, with the request and the remedy",
      async () => {
        const wrong = { ...connection, ...subject.wrongCredentials };
        const { inputs: declared } = lifecycle.check({ ...subject.declared, connection: wrong });
        const failed = await lifecycle.create(declared).catch((error: unknown) => error);
        expect(failed).toBeInstanceOf(HookplaneError);
        expect(failed).toMatchObject({
          code: "authentication_failed",
          details: { operation: "create", resource: resource.type, status: 401 },
        });
        expect((failed as Error).message).toContain(service.url);
      },
    );

    testWhere(resource.connection)(
      "no secret is in an error, though the vendor repeats the whole request",
      async () => {
        await using vendor = await openVendorServer(({ headers, body }) => ({
          status: 400,
          json: repeated(JSON.stringify(headers) + body + decodeURIComponent(body)),
        }));
        const secrets = secretNames(resource).filter((name) => name !== "connection");
        const declared = declare(subject.declared);
        const canaries: string[] = [];
        const plant = (value: unknown): unknown => {
          if (typeof value === "string") {
            canaries.push(`canary-${canaries.length}-${value.length}`);
            // An address must stay one, so its canary is the path.
            return URL.canParse(value) ? `http://example.com/${canaries.at(-1)}` : canaries.at(-1);
          }
          if (typeof value !== "object" || value === null) return value;
          return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plant(item)]));
        };
        const planted = Object.fromEntries(
          secrets.filter((name) => name in declared).map((name) => [name, plant(declared[name])]),
        );
        const wrong = { ...connection, ...subject.wrongCredentials, url: vendor.url };
        const secretTexts = [...canaries, ...Object.values(subject.wrongCredentials).map(String)];
        const values = { ...declared, ...planted, connection: wrong };
        const account = resource.connection?.identity(wrong);
        const state = { ...values, account };

        const failures = [
          await lifecycle.create(values).catch((error: unknown) => error),
          await lifecycle.read("some-id", state).catch((error: unknown) => error),
          await lifecycle.delete("some-id", state).catch((error: unknown) => error),
          await lifecycle
            .update("some-id", { ...state, ...subject.changed, connection: wrong }, values)
            .catch((error: unknown) => error),
        ];
        const told = failures.map((error) =>
          error instanceof Error ? `${error.message}${error.stack}` : "",
        );
        for (const secret of secretTexts) {
          for (const text of told) expect(text).not.toContain(secret);
          for (const error of failures) expect(JSON.stringify({ error })).not.toContain(secret);
        }
        expect(vendor.requests.length).toBeGreaterThan(0);
      },
    );
  });
}

/** The same words wherever one of the vendors has its error message. */
function repeated(message: string): object {
  return { message, code: 1, status: 400, error: { code: "invalid", message }, detail: message };
}

/** A URL of this machine at which nothing listens. */
async function addressOfNobody(): Promise<string> {
  await using server = await openVendorServer(() => ({ status: 200 }));
  return server.url;
}

/** A test that means something only for some kinds. */
function testWhere(applies: unknown): (name: string, body: () => Promise<void>) => void {
  return (name, body) => {
    if (applies) test(name, body);
  };
}
