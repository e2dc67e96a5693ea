import { createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openVendorServer } from "../../http/vendor-server.suite.ts";
import { createLifecycle, type Properties } from "../../lifecycle.ts";
import { createTestHost } from "../../resource.suite.ts";
import { startService, type RunningService } from "../../service.suite.ts";
import { deliveryProof } from "./delivery-proof.ts";

const lifecycle = createLifecycle(deliveryProof, createTestHost());
let service: RunningService;
let connection: Properties;

beforeAll(async () => {
  service = await startService();
  connection = { url: service.url, token: service.credentials.admin!.token! };
});
afterAll(() => service[Symbol.asyncDispose]());

async function call(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const headers = { authorization: `Bearer ${String(connection.token)}`, "content-type": "application/json" };
  const answer = await fetch(`${service.url}/api/v1${path}`, { method, headers, body: JSON.stringify(body) });
  return (await answer.json()) as Record<string, unknown>;
}

/** An application with an endpoint at each URL. */
async function openApplication(uid: string, ...urls: string[]): Promise<void> {
  await call("POST", "/app", { name: uid, uid });
  for (const url of urls) await call("POST", `/app/${uid}/endpoint`, { url });
}

const event = (application: string, eventType = "order.paid") => ({
  application,
  eventType,
  payload: { a: 1 },
});

function declare(values: Properties): Properties {
  const { inputs, failures } = lifecycle.check({ connection, ...values });
  expect(failures).toEqual([]);
  return inputs;
}

async function failure(values: Properties): Promise<{ code: string; message: string }> {
  const error: unknown = await lifecycle.create(declare(values)).catch((reason: unknown) => reason);
  return error as { code: string; message: string };
}

async function openReceiver(handle: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(handle).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`,
    [Symbol.dispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

describe("DeliveryProof", () => {
  test("says what arrived where, and that the inbox verified the signature", async () => {
    using receiver = await openReceiver((_request, response) => response.writeHead(202).end());
    await openApplication("orders", `${service.url}/inbox/orders`, receiver.url);
    const inputs = declare({ events: [event("orders"), event("orders", "order.sent")] });
    const { id, state } = await lifecycle.create(inputs);
    const deliveries = state.deliveries as { messageId: string; status: number; verifiedBy: string | null }[];
    expect(id).toBe(deliveries[0]!.messageId);
    expect(deliveries.map(({ status, verifiedBy }) => [status, verifiedBy]).sort()).toEqual([
      [202, null],
      [202, null],
      [204, "signature"],
      [204, "signature"],
    ]);
    expect(Number.isNaN(Date.parse(String(state.provenAt)))).toBe(false);

    expect((await lifecycle.diff(id, state, inputs)).action).toBe("none");
    expect((await lifecycle.read(id, state))?.state).toEqual(state);
    await lifecycle.delete(id, state);
    expect((await lifecycle.read(id, state))?.state).toEqual(state);
  });

  test("proves a vendor that signs nothing by the endpoint's own headers", async () => {
    const { apiKey, apiSecret, username } = service.credentials.pave!;
    const at = new Date().toISOString().replace(/\.\d+/, "");
    const token = createHmac("sha256", apiSecret!).update(`${username}:${apiKey}@${at}`).digest("hex");
    const made = await fetch(`${service.url}/pave/v1/callbacks`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "API-Key": apiKey!,
        "API-Token": token,
        "API-Timestamp": at,
      },
      body: JSON.stringify({
        event: "SESSION:COMPLETE",
        url: `${service.url}/inbox/pave`,
        headers: { Authorization: "Bearer inbox" },
      }),
    });
    expect(made.status).toBe(200);
    const events = [{ application: "pave", eventType: "SESSION:COMPLETE", payload: { session_key: "A-1" } }];
    const { state } = await lifecycle.create(declare({ events }));
    expect(state.deliveries).toMatchObject([{ application: "pave", verifiedBy: "credentials" }]);
  });

  test("runs again in place when a trigger or an event changes, and not for another time limit", async () => {
    await openApplication("again", `${service.url}/inbox/again`);
    const { id, state } = await lifecycle.create(declare({ events: [event("again")], triggers: ["a"] }));
    const more = declare({ events: [event("again")], triggers: ["a"], timeoutSeconds: 5 });
    const moved = await lifecycle.update(id, state, more);
    expect(moved.state.deliveries).toEqual(state.deliveries);

    const triggered = declare({ events: [event("again")], triggers: ["b"], timeoutSeconds: 5 });
    expect(await lifecycle.diff(id, moved.state, triggered)).toMatchObject({ action: "update" });
    const updated = await lifecycle.update(id, moved.state, triggered);
    expect(updated.state.deliveries).not.toEqual(state.deliveries);
    expect((await lifecycle.diff(id, updated.state, triggered)).action).toBe("none");
  });

  test("fails for an event that no endpoint is meant for, since nothing was proven", async () => {
    await openApplication("nobody");
    const error = await failure({ events: [event("nobody")], timeoutSeconds: 0.2 });
    expect(error.code).toBe("not_ready");
    expect(error.message).toContain('"order.paid" of application "nobody"');
    expect(error.message).toContain("no endpoint is meant for it");
  });

  test("says which endpoint got which attempts when the time is over, for all events at once", async () => {
    using receiver = await openReceiver((_request, response) => response.writeHead(500).end("out of\npaper"));
    await openApplication("broken", `${receiver.url}?token=canary`, `${service.url}/inbox/works`);
    await openApplication("nobody-either");
    const error = await failure({ events: [event("broken"), event("nobody-either")], timeoutSeconds: 1 });
    expect(error.message).toContain(`at ${receiver.url}: attempt 1: answered 500 "out of paper"`);
    expect(error.message).toContain("next attempt at ");
    expect(error.message).toContain('"nobody-either"');
    expect(error.message).not.toContain("canary");
    expect(error.message).not.toContain("/inbox/works");
  });

  test("says so when an endpoint does not answer at all", async () => {
    await openApplication("silent", "http://127.0.0.1:9/hooks");
    const error = await failure({ events: [event("silent")], timeoutSeconds: 1 });
    expect(error.message).toContain("attempt 1: no answer");
  });

  test("fails when the inbox got a request that it did not verify", async () => {
    const at = new Date().toISOString();
    await using other = await openVendorServer(({ path }) => {
      if (path.includes("/endpoint")) {
        const endpoint = { id: "ep_1", url: "unused", status: 0, nextAttempt: null };
        return { status: 200, json: { data: [endpoint], done: true, iterator: null } };
      }
      if (path.includes("/attempt/")) {
        const url = `http://${other.url.slice(7)}/inbox/orders?x=1`;
        const attempt = {
          endpointId: "ep_1",
          url,
          status: 0,
          responseStatusCode: 204,
          response: "",
          timestamp: at,
        };
        return { status: 200, json: { data: [attempt], done: true, iterator: null } };
      }
      if (path.startsWith("/inbox/orders/requests")) {
        const request = { receivedAt: at, headers: {}, verified: false, by: null, endpointId: null };
        return { status: 200, json: { data: [{ ...request, reasons: ["wrong signature"] }] } };
      }
      return { status: 202, json: { id: "msg_1" } };
    });
    const values = {
      events: [event("orders")],
      timeoutSeconds: 0.2,
      connection: { url: other.url, token: "t0ken" },
    };
    const error = await failure(values);
    expect(error.message).toContain(
      "answered 2xx, but its inbox did not verify the request (wrong signature)",
    );
  });

  test("publishes once although the answer was lost, by the same idempotency key", async () => {
    await using vendor = await openVendorServer(() => ({
      status: 422,
      json: { code: "x", detail: "stop here" },
    }));
    vendor.misbehave("reset after effect");
    await failure({ events: [event("orders")], connection: { url: vendor.url, token: "t0ken" } });
    const keys = vendor.requests.map(({ headers }) => headers["idempotency-key"]);
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
  });

  test("names the application that is not there", async () => {
    const error = await failure({ events: [event("missing")] });
    expect(error.code).toBe("rejected");
    expect(error.message).toContain("/api/v1/app/missing/msg");
  });

  test("refuses a proof of nothing, and names every fault", () => {
    const reasons = (values: Properties) =>
      lifecycle.check({ connection, ...values }).failures.map(({ property }) => property);
    expect(reasons({ events: [] })).toEqual(["events"]);
    expect(reasons({ events: [{ application: "", eventType: "", payload: [] }], timeoutSeconds: 0 })).toEqual(
      ["events[0].application", "events[0].eventType", "events[0].payload", "timeoutSeconds"],
    );
  });
});
