/** Above applications: two organizations never see each other's applications, event types or events. */
export interface Organization {
  /** `default`, or what its maker named it. */
  readonly id: string;
  readonly name: string;
  readonly createdAt: number;
}

/** The organization of the admin token and of the vendor accounts; always there. */
export const defaultOrganizationId = "default";
