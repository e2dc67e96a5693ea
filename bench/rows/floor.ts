import path from "node:path";
import type { Load } from "../generator.ts";
import { costing, measureLoad, putLoad, subjectOf, toMeasurement, warmUp } from "../measurement.ts";
import { closedLoop, messageRequest, openLoop } from "../publishing.ts";
import { profileFlags, receiverUrl, type Row } from "../run.ts";
import { startFloor } from "../server-process.ts";
import { toLatency } from "../statistics.ts";

/** (a): what the same costs without a store, and what the generator can do. */
export const floorRows: readonly Row[] = [
  {
    letter: "a",
    id: "a-generator",
    title: "the generator alone, answered by raw sockets, nothing delivered",
    async measure(run) {
      await using server = await startFloor("raw", "", path.join(run.folder, "a-generator"));
      const demand = {
        ports: [server.port],
        request: messageRequest(server.token),
        pace: closedLoop,
        seconds: run.seconds,
        targets: 1,
      };
      const nothingArrives = (): boolean => false;
      await warmUp(run, demand, nothingArrives);
      const outcome = await costing(run, subjectOf([server]), async () => {
        const answered = await putLoad(run, demand, nothingArrives);
        const accepted = answered.load.accepted.reduce((sum, value) => sum + value, 0);
        return { ...answered, account: { ...answered.account, accepted, lost: 0 } };
      });
      const { startedAtUs, endedAtUs, answersMs } = outcome.load;
      return toMeasurement(outcome, {
        eventsPerSecond: (outcome.account.accepted * 1e6) / (endedAtUs - startedAtUs),
        latency: toLatency(answersMs),
      });
    },
  },
  floorRow("a", "service", "floor: the service's own HTTP in and out and signing, no store", closedLoop),
  floorRow("a-bare", "bare", "bare floor: node:http in, undici out, signing, no store", closedLoop),
  floorRow("a-open", "service", "floor, open loop 1,000/s", openLoop(1_000)),
];

function floorRow(id: string, kind: "service" | "bare", title: string, pace: Load["pace"]): Row {
  return {
    letter: "a",
    id,
    title,
    async measure(run) {
      await using server = await startFloor(
        kind,
        receiverUrl(run, "fast"),
        path.join(run.folder, id),
        profileFlags(run, id),
      );
      return await measureLoad(run, subjectOf([server]), {
        ports: [server.port],
        request: messageRequest(server.token),
        pace,
        seconds: pace.kind === "open" ? run.seconds * 3 : run.seconds,
        targets: 1,
      });
    },
  };
}
