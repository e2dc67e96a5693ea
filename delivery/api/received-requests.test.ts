import { describe, expect, test } from "vitest";
import { createReceivedRequests } from "./received-requests.ts";

const limits = { names: 2, requestsPerName: 3, bytes: 10 };

function createSmall() {
  return createReceivedRequests<string>((request) => request.length, limits);
}

describe("createReceivedRequests()", () => {
  test("keeps the last requests of a name, oldest first", () => {
    const received = createSmall();
    for (const request of ["1", "2", "3", "4"]) received.add("a", request);
    expect(received.of("a")).toEqual(["2", "3", "4"]);
    expect(received.of("b")).toEqual([]);
  });

  test("a new name pushes out the one that has been silent longest", () => {
    const received = createSmall();
    received.add("a", "1");
    received.add("b", "2");
    received.add("a", "3");
    received.add("c", "4");
    expect([received.of("a"), received.of("b"), received.of("c")]).toEqual([["1", "3"], [], ["4"]]);
  });

  test("large requests push out older ones, those of the longest silent name first", () => {
    const received = createSmall();
    received.add("a", "1111");
    received.add("b", "2222");
    received.add("b", "3333");
    expect([received.of("a"), received.of("b")]).toEqual([[], ["2222", "3333"]]);
    received.add("b", "a request that is larger than all there is room for");
    expect(received.of("b")).toEqual([]);
    received.add("b", "4444");
    expect(received.of("b")).toEqual(["4444"]);
  });

  test("clearing a name makes room", () => {
    const received = createSmall();
    received.add("a", "1111");
    received.add("b", "22222");
    received.clear("b");
    received.add("c", "333333");
    expect([received.of("a"), received.of("b"), received.of("c")]).toEqual([["1111"], [], ["333333"]]);
  });
});
