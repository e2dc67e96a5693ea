import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { credentials, Server, ServerCredentials, type ServiceError } from "@grpc/grpc-js";
import engineGrpc from "@pulumi/pulumi/proto/engine_grpc_pb.js";
import providerGrpc from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import providerProto from "@pulumi/pulumi/proto/provider_pb.js";
import emptyProto from "google-protobuf/google/protobuf/empty_pb.js";
import structProto from "google-protobuf/google/protobuf/struct_pb.js";

type Properties = Record<string, unknown>;

/** Pulumi's own dynamic provider process, driven as the engine drives it. */
export interface ProviderProcess extends AsyncDisposable {
  /** What it asked the engine to show, as `WARNING: text`. */
  readonly messages: readonly string[];
  configure(config: Readonly<Record<string, string>>): Promise<void>;
  check(news: Properties): Promise<{ inputs: Properties; failures: { property: string; reason: string }[] }>;
  diff(id: string, olds: Properties, news: Properties): Promise<{ changes: boolean; replaces: string[] }>;
  create(inputs: Properties): Promise<{ id: string; properties: Properties }>;
  read(
    id: string,
    properties: Properties,
  ): Promise<{ id: string; properties: Properties; inputs: Properties }>;
  update(id: string, olds: Properties, news: Properties): Promise<Properties>;
  delete(id: string, properties: Properties): Promise<void>;
}

/** Starts the process in a program's folder in which `hookplane` is installed, over the sources of this checkout. */
export async function openProviderProcess(): Promise<ProviderProcess> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "hookplane-program-"));
  installPackage(folder);
  const messages: string[] = [];
  const engine = await openEngine(messages);
  const script = path.join(process.cwd(), "node_modules/@pulumi/pulumi/cmd/dynamic-provider/index.js");
  const child = spawn(process.execPath, [script, engine.address], {
    cwd: folder,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const exited = once(child, "exit");
  const [port] = (await once(createInterface(child.stdout), "line")) as [string];
  const client = new providerGrpc.ResourceProviderClient(`127.0.0.1:${port}`, credentials.createInsecure());

  /** Calls one method, with its request's fields set from plain values. */
  function call<Response>(method: string, request: object, fields: Properties): Promise<Response> {
    for (const [name, value] of Object.entries(fields)) {
      const setter = `set${name.charAt(0).toUpperCase()}${name.slice(1)}`;
      (request as Record<string, (value: unknown) => void>)[setter]!(
        typeof value === "object" && value !== null
          ? structProto.Struct.fromJavaScript(value as never)
          : value,
      );
    }
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, response: Response): void => {
        if (error) reject(error);
        else resolve(response);
      };
      (client as unknown as Record<string, (request: object, done: unknown) => void>)[method]!(request, done);
    });
  }
  const plain = (struct: structProto.Struct | undefined): Properties => struct?.toJavaScript() ?? {};

  return {
    messages,
    async configure(config) {
      await call("configure", new providerProto.ConfigureRequest(), { args: config });
    },
    async check(news) {
      const request = new providerProto.CheckRequest();
      const response = await call<providerProto.CheckResponse>("check", request, { olds: {}, news });
      return {
        inputs: plain(response.getInputs()),
        failures: response
          .getFailuresList()
          .map((failure) => ({ property: failure.getProperty(), reason: failure.getReason() })),
      };
    },
    async diff(id, olds, news) {
      const request = new providerProto.DiffRequest();
      const response = await call<providerProto.DiffResponse>("diff", request, { id, olds, news });
      const some = providerProto.DiffResponse.DiffChanges.DIFF_SOME;
      return { changes: response.getChanges() === some, replaces: response.getReplacesList() };
    },
    async create(properties) {
      const request = new providerProto.CreateRequest();
      const response = await call<providerProto.CreateResponse>("create", request, { properties });
      return { id: response.getId(), properties: plain(response.getProperties()) };
    },
    async read(id, properties) {
      const request = new providerProto.ReadRequest();
      const response = await call<providerProto.ReadResponse>("read", request, { id, properties });
      return {
        id: response.getId(),
        properties: plain(response.getProperties()),
        inputs: plain(response.getInputs()),
      };
    },
    async update(id, olds, news) {
      const request = new providerProto.UpdateRequest();
      const response = await call<providerProto.UpdateResponse>("update", request, { id, olds, news });
      return plain(response.getProperties());
    },
    async delete(id, properties) {
      await call("delete", new providerProto.DeleteRequest(), { id, properties });
    },
    async [Symbol.asyncDispose]() {
      client.close();
      child.kill();
      await exited;
      engine.close();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Node does not strip types below `node_modules`, so what stands there only points to the sources. */
function installPackage(folder: string): void {
  const target = path.join(folder, "node_modules", "hookplane");
  fs.mkdirSync(target, { recursive: true });
  const source = path.join(import.meta.dirname, "index.ts");
  fs.writeFileSync(path.join(target, "dynamic.mjs"), `export * from ${JSON.stringify(source)};\n`);
  const manifest = { name: "hookplane", version: "0.0.0", exports: { "./dynamic": "./dynamic.mjs" } };
  fs.writeFileSync(path.join(target, "package.json"), JSON.stringify(manifest));
}

/** As much of the engine as a provider talks to: its log. */
async function openEngine(messages: string[]): Promise<{ address: string; close(): void }> {
  const server = new Server();
  const severities = ["DEBUG", "INFO", "WARNING", "ERROR"];
  server.addService(engineGrpc.EngineService, {
    log(
      { request }: { request: { getSeverity(): number; getMessage(): string } },
      done: (error: null, response: object) => void,
    ) {
      messages.push(`${severities[request.getSeverity()]}: ${request.getMessage()}`);
      done(null, new emptyProto.Empty());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  return {
    address: `127.0.0.1:${port}`,
    close: () => {
      server.forceShutdown();
    },
  };
}
