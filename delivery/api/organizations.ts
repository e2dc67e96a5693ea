import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { newId } from "../core/ids.ts";
import type { Organization } from "../core/organization.ts";
import { ServiceError } from "../errors.ts";
import { ConflictError, type Tx } from "../store/store.ts";
import { notFound } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { isoTime, nameField, textField, timeOut } from "./fields.ts";
import { answerOnce, sendAnswer } from "./idempotency.ts";
import { readInput } from "./input.ts";
import { mapPage, orderedPageQuery, pageOf, paginate } from "./pagination.ts";
import type { ServerContext } from "./server.ts";

const organizationIn = z
  .object({
    id: nameField("id", 64).optional(),
    name: textField("name", 256).min(1, "The name must not be empty."),
  })
  .meta({ id: "OrganizationIn" });

const organizationOut = z
  .object({ id: z.string(), name: z.string(), createdAt: timeOut })
  .meta({ id: "OrganizationOut" });

type OrganizationOut = z.output<typeof organizationOut>;

const tag = "Organization";
const operations = {
  list: requiring("admin", {
    summary: "List organizations",
    tag,
    query: orderedPageQuery,
    answers: { 200: pageOf(organizationOut) },
  }),
  create: requiring("admin", {
    summary: "Create an organization",
    tag,
    body: organizationIn,
    isRepeatable: true,
    answers: { 201: organizationOut },
  }),
};

/** The path parameters of everything that belongs to an organization. */
export interface OrganizationParams {
  readonly organization: string;
}

/** The organizations, for the administrator. */
export function registerOrganizations(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

  instance.get("/organization", operations.list, async (request) => {
    const { query } = readInput(request, { query: orderedPageQuery });
    const page = await store.read((tx) => paginate(query, idOf, (range) => tx.organizations.list(range)));
    return mapPage(page, toOut);
  });

  instance.post("/organization", operations.create, async (request, reply) => {
    const { body } = readInput(request, { body: organizationIn });
    const answer = await answerOnce(context, request, (keep) =>
      store.write(async (tx) => {
        const now = context.now();
        const organization = { id: body.id ?? newId("org", now), name: body.name, createdAt: now };
        await insert(tx, organization);
        const created = { status: 201, body: JSON.stringify(toOut(organization)) };
        await keep.within(tx, created);
        return created;
      }),
    );
    return sendAnswer(reply, answer);
  });
}

/** @throws ServiceError `not_found` */
export async function requireOrganization(tx: Tx, id: string): Promise<Organization> {
  const organization = await tx.organizations.find(id);
  if (organization === undefined) throw notFound("organization", id);
  return organization;
}

async function insert(tx: Tx, organization: Organization): Promise<void> {
  try {
    await tx.organizations.insert(organization);
  } catch (cause) {
    if (!(cause instanceof ConflictError)) throw cause;
    throw new ServiceError("conflict", `There is an organization "${organization.id}" already.`, { cause });
  }
}

function toOut({ id, name, createdAt }: Organization): OrganizationOut {
  return { id, name, createdAt: isoTime(createdAt) };
}

function idOf(organization: Organization): string {
  return organization.id;
}
