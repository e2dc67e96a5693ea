import { createHash } from "node:crypto";
import type { Endpoint } from "../core/endpoint.ts";
import { emptyPolicy, type ApplicationPolicy } from "../core/policy.ts";
import { toTarget } from "../core/target.ts";
import type { Seal } from "./seal.ts";
import {
  fromJson,
  listPage,
  toJson,
  type Changes,
  type Filter,
  type Row,
  type Sql,
  type Value,
} from "./sql.ts";
import type { Tx } from "./store.ts";

export function createEndpoints(sql: Sql, changes: Changes, seal: Seal): Tx["endpoints"] {
  const noteChange = async (applicationId: string): Promise<void> => {
    await sql.run("update applications set version = version + 1 where id = ?", applicationId);
    changes.application(applicationId);
  };
  return {
    async insert(endpoint) {
      await sql.run(
        `insert into endpoints
           (application_id, uid, url, target_hash, pre_target_hash, description, filter_types, channels, headers, disabled,
            throttle_rate, version, metadata, settings, secrets, policy, tls, updated_at, id, created_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...toValues(endpoint, seal),
        endpoint.id,
        endpoint.createdAt,
      );
      await noteChange(endpoint.applicationId);
    },

    async find(applicationId, idOrUid) {
      const row =
        (await sql.get(
          `select * from endpoints where application_id = ? and id = ?${sql.forUpdate}`,
          applicationId,
          idOrUid,
        )) ??
        (await sql.get(
          `select * from endpoints where application_id = ? and uid = ?${sql.forUpdate}`,
          applicationId,
          idOrUid,
        ));
      return row && toEndpoint(row, seal);
    },

    async list(applicationId, page = { limit: Number.MAX_SAFE_INTEGER }) {
      const filters: Filter[] = [["application_id = ?", applicationId]];
      const rows = await listPage(sql, "select * from endpoints", filters, "id", page);
      return rows.map((row) => toEndpoint(row, seal));
    },

    async listByUrl(url) {
      const hash = targetHash(url);
      const rows = await sql.all(
        "select * from endpoints where target_hash = ? or pre_target_hash = ? order by id",
        hash,
        hash,
      );
      return rows.map((row) => toEndpoint(row, seal));
    },

    async update(endpoint) {
      const changed = await sql.run(
        `update endpoints
         set application_id = ?, uid = ?, url = ?, target_hash = ?, pre_target_hash = ?, description = ?, filter_types = ?,
             channels = ?, headers = ?, disabled = ?, throttle_rate = ?, version = ?, metadata = ?, settings = ?,
             secrets = ?, policy = ?, tls = ?, updated_at = ?
         where id = ?`,
        ...toValues(endpoint, seal),
        endpoint.id,
      );
      await noteChange(endpoint.applicationId);
      return changed > 0;
    },

    async delete(id) {
      await sql.run("delete from endpoint_states where endpoint_id = ?", id);
      const row = await sql.get("delete from endpoints where id = ? returning application_id", id);
      if (!row) return false;
      await noteChange(row["application_id"] as string);
      return true;
    },
  };
}

/** The columns that may change, in the order of both statements. */
function toValues(endpoint: Endpoint, seal: Seal): Value[] {
  return [
    endpoint.applicationId,
    endpoint.uid,
    seal.close(endpoint.url, `${endpoint.id}.url`),
    targetHash(endpoint.url),
    targetHash(endpoint.settings["preWebhookUrl"]),
    endpoint.description,
    toJson(endpoint.filterTypes),
    toJson(endpoint.channels),
    seal.close(JSON.stringify(endpoint.headers), `${endpoint.id}.headers`),
    endpoint.disabled ? 1 : 0,
    endpoint.throttleRate,
    endpoint.version,
    JSON.stringify(endpoint.metadata),
    seal.close(JSON.stringify(endpoint.settings), `${endpoint.id}.settings`),
    seal.close(JSON.stringify(endpoint.secrets), `${endpoint.id}.secrets`),
    JSON.stringify(endpoint.policy),
    endpoint.tls && seal.close(JSON.stringify(endpoint.tls), `${endpoint.id}.tls`),
    endpoint.updatedAt,
  ];
}

function toEndpoint(row: Row, seal: Seal): Endpoint {
  const id = row["id"] as string;
  return {
    id,
    applicationId: row["application_id"] as string,
    uid: row["uid"] as string | null,
    url: seal.open(row["url"] as string, `${id}.url`),
    description: row["description"] as string,
    filterTypes: fromJson(row["filter_types"]) as Endpoint["filterTypes"],
    channels: fromJson(row["channels"]) as Endpoint["channels"],
    headers: JSON.parse(seal.open(row["headers"] as string, `${id}.headers`)) as Endpoint["headers"],
    disabled: row["disabled"] === 1,
    throttleRate: row["throttle_rate"] as number | null,
    version: row["version"] as number,
    metadata: fromJson(row["metadata"]) as Endpoint["metadata"],
    settings: JSON.parse(seal.open(row["settings"] as string, `${id}.settings`)) as Endpoint["settings"],
    secrets: JSON.parse(seal.open(row["secrets"] as string, `${id}.secrets`)) as Endpoint["secrets"],
    policy: toPolicy(row["policy"]),
    tls:
      row["tls"] === null
        ? null
        : (JSON.parse(seal.open(row["tls"] as string, `${id}.tls`)) as Endpoint["tls"]),
    createdAt: row["created_at"] as number,
    updatedAt: row["updated_at"] as number,
  };
}

/** From a column that holds what of a policy is asked for. */
export function toPolicy(value: unknown): ApplicationPolicy {
  return { ...emptyPolicy, ...(fromJson(value) as Partial<ApplicationPolicy>) };
}

/** What tells where requests for a URL go, and nothing else of it; null where there is none. */
function targetHash(url: unknown): string | null {
  if (typeof url !== "string" || !URL.canParse(url)) return null;
  return createHash("sha256").update(toTarget(url).url.href).digest("hex");
}
