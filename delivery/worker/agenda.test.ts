import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Agenda } from "./agenda.ts";

/** The endpoints that are handed out, by name: `a1` is one of the application `a`. */
function take(agenda: Agenda, now: number, limit = 100): string[] {
  return agenda.take(now, limit).map(({ endpointId }) => endpointId);
}

function createAgenda() {
  const agenda = new Agenda();
  const note = (endpointId: string, at: number): void => {
    agenda.note(endpointId, endpointId.charAt(0), at);
  };
  return { agenda, note };
}

describe("Agenda", () => {
  test("hands out what is due, the earliest first, and nothing twice", () => {
    const { agenda, note } = createAgenda();
    note("a1", 30);
    note("a2", 10);
    note("a3", 20);
    expect(take(agenda, 9)).toEqual([]);
    expect(agenda.nextAt).toBe(10);
    expect(take(agenda, 20)).toEqual(["a2", "a3"]);
    expect(agenda.nextAt).toBe(30);
    expect(take(agenda, 30)).toEqual(["a1"]);
    expect(take(agenda, 1_000)).toEqual([]);
    expect(agenda.nextAt).toBe(Infinity);
  });

  test("says who it is for, and for when it was noted", () => {
    const { agenda, note } = createAgenda();
    note("b1", 7);
    expect(agenda.take(8, 1)).toEqual([{ endpointId: "b1", applicationId: "b", at: 7 }]);
  });

  test("keeps the earlier of two times", () => {
    const { agenda, note } = createAgenda();
    note("a1", 20);
    note("a1", 10);
    note("a1", 30);
    expect(take(agenda, 10)).toEqual(["a1"]);
    expect(take(agenda, 100)).toEqual([]);
  });

  test("an endpoint that was handed out can be noted again", () => {
    const { agenda, note } = createAgenda();
    note("a1", -Infinity);
    expect(agenda.nextAt).toBe(-Infinity);
    expect(take(agenda, 0)).toEqual(["a1"]);
    note("a1", 5);
    expect(take(agenda, 4)).toEqual([]);
    expect(take(agenda, 5)).toEqual(["a1"]);
  });

  test("applications take turns, however many endpoints one of them has", () => {
    const { agenda, note } = createAgenda();
    for (let n = 1; n <= 5; n++) note(`a${n}`, n);
    note("b1", 6);
    note("c1", 7);
    note("c2", 8);
    expect(take(agenda, 10, 5)).toEqual(["a1", "b1", "c1", "a2", "c2"]);
    note("b2", 9);
    expect(agenda.nextAt).toBe(-Infinity);
    expect(take(agenda, 10)).toEqual(["a3", "b2", "a4", "a5"]);
  });

  test("a limit of nothing takes nothing", () => {
    const { agenda, note } = createAgenda();
    note("a1", 0);
    expect(take(agenda, 1, 0)).toEqual([]);
    expect(take(agenda, 1)).toEqual(["a1"]);
  });

  test("whatever is noted and taken, it has what a list that is searched each time has", () => {
    const steps = fc.array(
      fc.oneof(
        {
          weight: 3,
          arbitrary: fc.record({
            endpointId: fc.constantFrom("a1", "a2", "a3", "a4", "b1", "b2", "c1"),
            at: fc.oneof(fc.nat(50), fc.constant(-Infinity)),
          }),
        },
        { weight: 2, arbitrary: fc.record({ passed: fc.nat(20), limit: fc.nat(4) }) },
      ),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(steps, (all) => {
        const { agenda, note } = createAgenda();
        const model = new Map<string, number>();
        let now = 0;
        for (const step of all) {
          if ("at" in step) {
            const at = now + step.at;
            note(step.endpointId, at);
            model.set(step.endpointId, Math.min(model.get(step.endpointId) ?? Infinity, at));
          } else {
            now += step.passed;
            const due = [...model].filter(([, at]) => at <= now).map(([endpointId]) => endpointId);
            const taken = take(agenda, now, step.limit);
            expect(taken).toHaveLength(Math.min(step.limit, due.length));
            expect(due).toEqual(expect.arrayContaining(taken));
            for (const endpointId of taken) expect(model.delete(endpointId)).toBe(true);
            // Nobody has two turns while another application that is due has none.
            const turns = new Map<string, number>();
            for (const each of taken) turns.set(each.charAt(0), (turns.get(each.charAt(0)) ?? 0) + 1);
            const left = due.filter((endpointId) => model.has(endpointId)).map((each) => each.charAt(0));
            for (const application of new Set(left)) {
              for (const count of turns.values())
                expect(count).toBeLessThanOrEqual((turns.get(application) ?? 0) + 1);
            }
          }
          const earliest = Math.min(Infinity, ...model.values());
          if (earliest <= now) expect(agenda.nextAt).toBeLessThanOrEqual(now);
          else expect(agenda.nextAt).toBe(earliest);
        }
        expect(take(agenda, Infinity).toSorted()).toEqual([...model.keys()].toSorted());
      }),
      { numRuns: 1_000 },
    );
  });

  test("does not grow with the times that endpoints are moved", () => {
    const { agenda, note } = createAgenda();
    for (let round = 0; round < 1_000; round++) {
      for (let n = 0; n < 10; n++) {
        // A retry that is due tomorrow, and something for now.
        note(`a${n}`, 86_400_000 + round);
        note(`a${n}`, round);
      }
      expect(take(agenda, round)).toHaveLength(10);
    }
    expect(agenda.size).toBeLessThan(200);
  });
});
