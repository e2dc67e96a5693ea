import { costing, putLoad, subjectOf, toMeasurement, warmUp, type Demand } from "../measurement.ts";
import { application, messageRequest, openLoop } from "../publishing.ts";
import { targetName } from "../request-template.ts";
import { receiverUrl, withService, type Row, type Run } from "../run.ts";

const endpoints = 10;
/** Event types of the endpoints; the healthy one has the first. */
const eventTypes = "bench.#####";

/** Longer than the 15 seconds after which the service gives a request up, so that slots are freed and taken again. */
function secondsOf({ isQuick }: Run): number {
  return isQuick ? 5 : 25;
}

/** (g): one endpoint answers at once, and nine of the same application take every request and never answer. */
export const isolationRows: readonly Row[] = [
  isolationRow(100, "origins"),
  isolationRow(200, "origins"),
  isolationRow(1_000, "origins"),
  isolationRow(1_000, "one origin"),
];

/** @param place whether each endpoint has an origin of its own, or all are paths of one, as behind a gateway */
function isolationRow(requestsPerSecond: number, place: "origins" | "one origin"): Row {
  const rate = `${requestsPerSecond.toLocaleString("en")}/s in all`;
  const id = `g${requestsPerSecond}${place === "origins" ? "" : "-one-origin"}`;
  return {
    letter: "g",
    id,
    title: `one healthy endpoint among nine that hang, ${rate}${place === "origins" ? "" : ", all of one origin"}`,
    measure: (run) =>
      // What hangs does not hold the end up.
      withService(run, id, { flags: ["--stop-timeout-seconds", "1"] }, async ({ server, management }) => {
        await management.application(application);
        const add = (index: number): Promise<void> =>
          management.endpoint(application, {
            url: receiverUrl(
              run,
              index === 0 ? "fast" : `hang/${index}`,
              place === "origins" ? `127.2.0.${index + 1}` : undefined,
            ),
            eventTypes: [eventTypes.replace("#####", targetName(index))],
          });
        await add(0);
        const demand: Demand = {
          ports: [server.port],
          request: messageRequest(server.token, application, eventTypes),
          pace: openLoop(requestsPerSecond / endpoints),
          seconds: secondsOf(run),
          targets: 1,
        };
        await warmUp(run, demand);
        const baseline = (await putLoad(run, demand)).received.latency;

        for (let index = 1; index < endpoints; index += 1) await add(index);
        const outcome = await costing(run, subjectOf([server]), () =>
          putLoad(
            run,
            { ...demand, pace: openLoop(requestsPerSecond), targets: endpoints },
            (index) => index % endpoints === 0,
          ),
        );
        const { latency } = outcome.received;
        return toMeasurement(outcome, {
          eventsPerSecond: null,
          figures: {
            "p50 ms alone": baseline.p50,
            "p99 ms alone": baseline.p99,
            "p99 to p99 alone": latency.p99 / baseline.p99,
          },
        });
      }),
  };
}
