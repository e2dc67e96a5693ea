import type { Endpoint } from "../core/endpoint.ts";
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
  return {
    async insert(endpoint) {
      await sql.run(
        `insert into endpoints
           (application_id, uid, url, pre_webhook_url, description, filter_types, channels, headers, disabled,
            throttle_rate, version, metadata, settings, secrets, updated_at, id, created_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...toValues(endpoint, seal),
        endpoint.id,
        endpoint.createdAt,
      );
      changes.add(endpoint.applicationId);
    },

    async find(applicationId, idOrUid) {
      const row =
        (await sql.get(
          "select * from endpoints where application_id = ? and id = ?",
          applicationId,
          idOrUid,
        )) ??
        (await sql.get(
          "select * from endpoints where application_id = ? and uid = ?",
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
      const rows = await sql.all(
        "select * from endpoints where url = ? or pre_webhook_url = ? order by id",
        url,
        url,
      );
      return rows.map((row) => toEndpoint(row, seal));
    },

    async update(endpoint) {
      const changed = await sql.run(
        `update endpoints
         set application_id = ?, uid = ?, url = ?, pre_webhook_url = ?, description = ?, filter_types = ?,
             channels = ?, headers = ?, disabled = ?, throttle_rate = ?, version = ?, metadata = ?, settings = ?,
             secrets = ?, updated_at = ?
         where id = ?`,
        ...toValues(endpoint, seal),
        endpoint.id,
      );
      changes.add(endpoint.applicationId);
      return changed > 0;
    },

    async delete(id) {
      await sql.run("delete from deliveries where endpoint_id = ? and claimable_at is not null", id);
      const row = await sql.get("delete from endpoints where id = ? returning application_id", id);
      if (!row) return false;
      changes.add(row["application_id"] as string);
      return true;
    },
  };
}

/** The columns that may change, in the order of both statements. */
function toValues(endpoint: Endpoint, seal: Seal): Value[] {
  const preWebhookUrl = endpoint.settings["preWebhookUrl"];
  return [
    endpoint.applicationId,
    endpoint.uid,
    endpoint.url,
    typeof preWebhookUrl === "string" && preWebhookUrl !== "" ? preWebhookUrl : null,
    endpoint.description,
    toJson(endpoint.filterTypes),
    toJson(endpoint.channels),
    seal.close(JSON.stringify(endpoint.headers), `${endpoint.id}.headers`),
    endpoint.disabled ? 1 : 0,
    endpoint.throttleRate,
    endpoint.version,
    JSON.stringify(endpoint.metadata),
    JSON.stringify(endpoint.settings),
    seal.close(JSON.stringify(endpoint.secrets), `${endpoint.id}.secrets`),
    endpoint.updatedAt,
  ];
}

function toEndpoint(row: Row, seal: Seal): Endpoint {
  const id = row["id"] as string;
  return {
    id,
    applicationId: row["application_id"] as string,
    uid: row["uid"] as string | null,
    url: row["url"] as string,
    description: row["description"] as string,
    filterTypes: fromJson(row["filter_types"]) as Endpoint["filterTypes"],
    channels: fromJson(row["channels"]) as Endpoint["channels"],
    headers: JSON.parse(seal.open(row["headers"] as string, `${id}.headers`)) as Endpoint["headers"],
    disabled: row["disabled"] === 1,
    throttleRate: row["throttle_rate"] as number | null,
    version: row["version"] as number,
    metadata: fromJson(row["metadata"]) as Endpoint["metadata"],
    settings: fromJson(row["settings"]) as Endpoint["settings"],
    secrets: JSON.parse(seal.open(row["secrets"] as string, `${id}.secrets`)) as Endpoint["secrets"],
    createdAt: row["created_at"] as number,
    updatedAt: row["updated_at"] as number,
  };
}
