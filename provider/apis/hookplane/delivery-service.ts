import { isIP } from "node:net";
import { homedir } from "node:os";
import { resolve } from "node:path";
import { z } from "zod";
import { HookplaneError } from "../../errors.ts";
import { httpUrl, knownName } from "../../fields.ts";
import { isSame } from "../../normal.ts";
import { defineResource, type ApiDefinition, type Context } from "../../resource.ts";
import { svixConnection } from "./client.ts";
import { findService, startService, stopService, type LocalService } from "./local-service.ts";
import { removeFolder, type ServiceSettings } from "./service-folder.ts";

const inputs = z.object({
  dataDir: z
    .string()
    .min(1, "must name a folder")
    .default(".hookplane")
    .transform((folder) => resolve(folder))
    .meta({
      description:
        "Folder of the database, its key, the credentials and the log; from the program's folder on where it is relative. " +
        "Another folder is another service.",
      replaces: true,
    }),
  host: z.string().min(1, "must name an address").default("127.0.0.1").meta({
    description: "The address to listen on.",
  }),
  port: z.int().min(1).max(65_535).optional().meta({
    description: "The port to listen on; when left out, a free one that it keeps from then on.",
    unmanaged: true,
  }),
  allowSubnets: z
    .array(z.string().refine(isSubnet, "must be address/prefix, such as 127.0.0.0/8"))
    .default([])
    .meta({
      description: "Subnets that deliveries may reach although they are not public, such as `127.0.0.0/8`.",
      compare: "set",
    }),
  inbox: z
    .boolean()
    .default(false)
    .meta({ description: "Whether `/inbox/<name>` receives, verifies and keeps what is sent there." }),
  publicUrl: httpUrl().optional().meta({
    description: "The address that the world knows the service by, where it is not the one it listens on.",
  }),
  logLevel: knownName("log level", ["trace", "debug", "info", "warn", "error", "fatal", "silent"])
    .default("info")
    .meta({ description: "How much goes to `service.log` in the data folder." }),
  running: z
    .boolean()
    .default(true)
    .meta({
      description:
        "Whether it should run. A service that is found down is started again by the next `up`, with its data; `false` " +
        "stops it and keeps everything.",
    }),
  deleteData: z.boolean().default(false).meta({
    description: "Whether deleting the resource deletes the data folder too. By default the data stays.",
    local: true,
  }),
  startTimeoutSeconds: z
    .number()
    .positive()
    .max(600)
    .default(30)
    .meta({ description: "How long it may take until it is ready, in seconds.", local: true }),
});

type Inputs = z.output<typeof inputs>;

const outputs = z.object({
  url: z.string().meta({ description: "Its address, such as `http://127.0.0.1:8420`." }),
  inboxUrl: z.string().meta({
    description:
      "Address of its inbox, such as `http://127.0.0.1:8420/inbox`; append `/<name>`. Only with `inbox`.",
  }),
  pid: z.number().nullable().meta({ description: "Its process; null while it does not run." }),
  version: z.string().nullable().meta({ description: "Its version; null while it does not run." }),
  connections: z.record(z.string(), z.unknown()).meta({
    description: "A connection for each API that the service speaks: give it as the input `connection`.",
    secret: true,
  }),
});

type Outputs = z.output<typeof outputs>;

/** A delivery service on this machine, kept running as a process of its own. It speaks the vendors' APIs and Svix's. */
export function createDeliveryService(vendors: readonly ApiDefinition[]) {
  const described = [
    ...vendors.map(
      ({ name, title, account }) => [name, account.connection.schema, `For resources of ${title}.`] as const,
    ),
    ["svix", svixConnection.schema, "For the Svix-compatible API, and for `DeliveryProof`."] as const,
  ];
  const shape: Record<string, z.ZodType> = Object.fromEntries(
    described.map(([name, schema, description]) => [name, schema.meta({ description })]),
  );
  const { connections } = outputs.shape;

  return defineResource({
    type: "index:DeliveryService",
    description: `
A delivery service on the machine that runs Pulumi: \`hookplane serve\` as a process of its own, which goes on when Pulumi
has ended. It speaks the APIs of PAVE, Twilio, Casey and Svix, and delivers their events.

A service that is down, after a restart of the machine for example, shows as drift of \`running\`: \`pulumi up --refresh\`
starts it again on its port and with its data. Changed settings restart it. Deleting it lets deliveries in flight end and
stops it; the data folder stays unless \`deleteData\` is set.

The service needs Node 24 or newer: the one that runs Pulumi, or the one that \`HOOKPLANE_NODE\` names. Import id: the data
folder's absolute path.
`.trim(),
    example: `import * as hookplane from "hookplane";

const service = new hookplane.DeliveryService("service", {
  inbox: true,
  allowSubnets: ["127.0.0.0/8"],
});

new hookplane.pave.Callback("done", {
  event: "SESSION:COMPLETE",
  url: service.inboxUrl.apply((inbox) => \`\${inbox}/pave\`),
  connection: service.connections.pave,
});

export const url = service.url;
`,
    inputs,
    outputs: outputs.extend({ connections: z.object(shape).meta({ ...connections.meta() }) }),

    async observe(context, id) {
      return findService(id, context.signal);
    },

    async create(context, wanted) {
      const { dataDir } = wanted;
      const there = await findService(dataDir, context.signal);
      const isAsWanted =
        there?.running === true && isSame(there.record?.settings, toSettings(wanted), undefined);
      // Started before, and its creation never came to be known here.
      if (isAsWanted && there.pid !== null && wanted.running) return { id: dataDir, observed: there };
      if (there?.running) {
        throw new HookplaneError(
          "already_exists",
          `The data folder "${dataDir}" is in use by the service at "${there.url ?? ""}"`,
          { remedy: "Stop that service, or set another `dataDir`." },
        );
      }
      return { id: dataDir, observed: await restart(context, wanted, there?.url) };
    },

    async update(context, _id, wanted, { state }) {
      return restart(context, wanted, state.url);
    },

    async delete(context, id, state) {
      await stopService(id, context.signal);
      if (state.deleteData) await removeFolder(id, [process.cwd(), homedir()]);
    },

    toState(
      { dataDir, record, credentials, url: found, pid, running, version },
      known,
    ): Partial<Inputs> & Outputs {
      const url = found ?? known.url ?? "";
      const { port, ...settings } = record?.settings ?? known;
      const { admin, ...sections } = credentials;
      const own = vendors.map(
        ({ name, account }) => [name, { url: url + account.servicePath, ...sections[name] }] as const,
      );
      return {
        dataDir,
        ...settings,
        logLevel: settings.logLevel as Inputs["logLevel"],
        port: port ?? undefined,
        publicUrl: settings.publicUrl || undefined,
        running,
        url,
        inboxUrl: `${url}/inbox`,
        pid,
        version,
        connections: { ...Object.fromEntries(own), svix: { url, token: admin.token } },
      };
    },
  });
}

/** Stops it where it runs and, unless it should not, starts it with these settings on the port that it had. */
async function restart(
  { signal }: Context,
  wanted: Inputs,
  previousUrl: string | undefined,
): Promise<LocalService> {
  const { dataDir } = wanted;
  const settings = toSettings(wanted);
  await stopService(dataDir, signal, settings);
  const stopped = wanted.running ? undefined : await findService(dataDir, signal);
  if (stopped) return stopped;

  const port = wanted.port ?? portOf(previousUrl);
  const service = await startService(dataDir, settings, port, wanted.startTimeoutSeconds * 1000, signal);
  if (wanted.running) return service;
  // Its credentials are made by its first start.
  await stopService(dataDir, signal);
  return { ...service, pid: null, running: false, version: null };
}

function toSettings({ host, port, allowSubnets, inbox, publicUrl, logLevel }: Inputs): ServiceSettings {
  return { host, port: port ?? null, allowSubnets, inbox, publicUrl: publicUrl ?? "", logLevel };
}

function portOf(url: string | undefined): number | null {
  const port = url ? Number(new URL(url).port) : 0;
  return port === 0 ? null : port;
}

function isSubnet(text: string): boolean {
  const [, address = "", prefix = ""] = /^(.+)\/(\d{1,3})$/.exec(text) ?? [];
  const version = isIP(address);
  return version !== 0 && Number(prefix) <= (version === 4 ? 32 : 128);
}
