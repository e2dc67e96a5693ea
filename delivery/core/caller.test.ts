import { describe, expect, test } from "vitest";
import {
  capabilities,
  expandCapabilities,
  mayUse,
  seesFlagged,
  type Caller,
  type Capability,
} from "./caller.ts";

const admin: Caller = { organizationId: "default", isAdmin: true, limits: null, tokenId: null };
const organization: Caller = { ...admin, isAdmin: false };

function portal(given: readonly Capability[] | null, featureFlags: readonly string[] = []): Caller {
  return {
    ...organization,
    limits: {
      applicationId: "app_1",
      capabilities: expandCapabilities(given),
      featureFlags: new Set(featureFlags),
    },
  };
}

describe("mayUse()", () => {
  test("lets the administrator do everything", () => {
    for (const access of ["admin", "organization", ...capabilities] as const) {
      expect(mayUse(admin, access)).toBe(true);
    }
  });

  test("lets an organization do everything but manage organizations and tokens", () => {
    expect(mayUse(organization, "admin")).toBe(false);
    for (const access of ["organization", ...capabilities] as const) {
      expect(mayUse(organization, access)).toBe(true);
    }
  });

  test("keeps a token of one application out of what concerns the organization", () => {
    expect(mayUse(portal(null), "organization")).toBe(false);
    expect(mayUse(portal(null), "admin")).toBe(false);
  });

  test.each<[readonly Capability[] | null, readonly Capability[]]>([
    [null, capabilities],
    [["ViewBase"], ["ViewBase"]],
    [
      ["ViewBase", "ViewEndpointSecret"],
      ["ViewBase", "ViewEndpointSecret"],
    ],
    [
      ["ViewBase", "ManageEndpointSecret"],
      ["ViewBase", "ViewEndpointSecret", "ManageEndpointSecret"],
    ],
    [
      ["ViewBase", "ManageEndpoint"],
      ["ViewBase", "ViewEndpointSecret", "ManageEndpointSecret", "ManageEndpoint"],
    ],
    [
      ["ViewBase", "CreateAttempts"],
      ["ViewBase", "CreateAttempts"],
    ],
  ])("of the capabilities, %j allow exactly %j", (given, allowed) => {
    expect(capabilities.filter((capability) => mayUse(portal(given), capability))).toEqual(
      capabilities.filter((capability) => allowed.includes(capability)),
    );
  });
});

describe("seesFlagged()", () => {
  test("shows what is behind no flag to everybody", () => {
    expect(seesFlagged(portal(null), null)).toBe(true);
    expect(seesFlagged(portal(null), [])).toBe(true);
  });

  test("shows what is behind flags to a token that has one of them, and to those of the organization", () => {
    expect(seesFlagged(portal(null), ["beta"])).toBe(false);
    expect(seesFlagged(portal(null, ["alpha"]), ["beta"])).toBe(false);
    expect(seesFlagged(portal(null, ["alpha", "beta"]), ["beta", "gamma"])).toBe(true);
    expect(seesFlagged(organization, ["beta"])).toBe(true);
  });
});
