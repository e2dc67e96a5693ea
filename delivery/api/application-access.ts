import type { Application } from "../core/application.ts";
import type { Caller } from "../core/caller.ts";
import { ServiceError } from "../errors.ts";
import type { Store, Tx } from "../store/store.ts";
import type { ServerContext } from "./server.ts";

/** The path parameters of everything that belongs to an application. */
export interface ApplicationParams {
  readonly app: string;
}

/**
 * The application with this id or uid, of the caller's organization.
 *
 * @throws ServiceError `not_found`; `forbidden` for a caller that is limited to another application, whether there is one
 * of this name or not
 */
export async function requireApplication(
  from: Store | Tx,
  { organizationId, limits }: Caller,
  idOrUid: string,
): Promise<Application> {
  const application = await ("applications" in from
    ? from.applications.find(organizationId, idOrUid)
    : from.read((tx) => tx.applications.find(organizationId, idOrUid)));
  if (limits !== null && application?.id !== limits.applicationId) {
    throw new ServiceError("forbidden", "The token is for another application.");
  }
  if (application === undefined) throw notFound("application", idOrUid);
  return application;
}

export function notFound(what: string, id: string): ServiceError {
  return new ServiceError("not_found", `There is no ${what} "${shorten(id)}".`);
}

/**
 * Vendor accounts are changed through the vendor's own API only: there the vendor's rules hold.
 *
 * @throws ServiceError `forbidden` when the application is a vendor account
 */
export function refuseVendorAccount(context: ServerContext, application: Application): void {
  const served = context.accounts.find((candidate) => candidate.context.application.id === application.id);
  if (served === undefined) return;
  const { title, prefix } = served.account;
  throw new ServiceError(
    "forbidden",
    `The application "${application.uid ?? application.id}" is the ${title} account: it and its endpoints are managed through ${prefix}.`,
  );
}

function shorten(text: string): string {
  return text.length > 64 ? `${text.slice(0, 64)}…` : text;
}
