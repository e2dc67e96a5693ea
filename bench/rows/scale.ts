import { setTimeout as sleep } from "node:timers/promises";
import { nowUs } from "../clock.ts";
import { forEach } from "../management.ts";
import {
  costing,
  measureLoad,
  putLoad,
  subjectOf,
  toMeasurement,
  warmUp,
  type Demand,
  type Measurement,
} from "../measurement.ts";
import { application, batchRequest, closedBatchLoop, closedLoop, messageRequest } from "../publishing.ts";
import { targetName } from "../request-template.ts";
import { receiverUrl, withService, type Prepared, type Row, type Run } from "../run.ts";

type Place = "applications" | "origins" | "one application";

/** (h): many endpoints, of which each event goes to one, and many deliveries that wait. */
export const scaleRows: readonly Row[] = [
  endpointsRow("h1", 1, "applications", "1 endpoint"),
  endpointsRow("h100", 100, "applications", "100 endpoints, an application each"),
  endpointsRow("h10000", 10_000, "applications", "10,000 endpoints, an application each"),
  endpointsRow("h10000-origins", 10_000, "origins", "10,000 endpoints, an application and an origin each"),
  endpointsRow(
    "h10000-filters",
    10_000,
    "one application",
    "10,000 endpoints of one application, by event type",
  ),
  {
    letter: "h",
    id: "h-backlog",
    title: "(b) beside 1,000,000 waiting deliveries of another application",
    measure: (run) =>
      withService(run, "h-backlog", { flags: ["--stop-timeout-seconds", "1"] }, (prepared) =>
        measureBacklog(run, prepared),
      ),
  },
];

function endpointsRow(id: string, count: number, place: Place, title: string): Row {
  return {
    letter: "h",
    id,
    title: `${title}, 64 connections`,
    measure: (run) =>
      withService(run, id, {}, async ({ server, management }) => {
        const number = run.isQuick ? Math.min(count, 1_000) : count;
        const isOneApplication = place === "one application";
        if (isOneApplication) await management.application(application);
        await forEach(number, async (index) => {
          const name = targetName(index);
          if (!isOneApplication) await management.application(`${application}-${name}`);
          await management.endpoint(isOneApplication ? application : `${application}-${name}`, {
            url: receiverUrl(run, `fast/${name}`, place === "origins" ? addressOf(index) : undefined),
            ...(isOneApplication && { eventTypes: [`bench.${name}`] }),
          });
        });
        return await measureLoad(run, subjectOf([server]), {
          ports: [server.port],
          request: isOneApplication
            ? messageRequest(server.token, application, "bench.#####")
            : messageRequest(server.token, `${application}-#####`),
          pace: closedLoop,
          seconds: run.seconds,
          targets: number,
        });
      }),
  };
}

/** An address of this machine of its own: Linux has all of 127.0.0.0/8. */
function addressOf(index: number): string {
  return `127.1.${Math.floor(index / 250)}.${(index % 250) + 1}`;
}

/** How long it may take until a receiver that is back gets its first delivery, and then until the sample is there. */
const drainMs = 180_000;

async function measureBacklog(run: Run, { server, management }: Prepared): Promise<Measurement> {
  const { receiver } = run;
  const backlog = run.isQuick ? 20_000 : 1_000_000;
  const sample = backlog / 20;
  const waiting = "waiting";
  await receiver.call("gate", false);
  await management.application(application);
  await management.endpoint(application, { url: receiverUrl(run, "fast") });
  await management.application(waiting);
  await management.endpoint(waiting, { url: receiverUrl(run, "gate") });

  const demand: Demand = {
    ports: [server.port],
    request: messageRequest(server.token),
    pace: closedLoop,
    seconds: run.seconds,
    targets: 1,
  };
  const subject = subjectOf([server]);
  await warmUp(run, demand);
  const alone = toMeasurement(await costing(run, subject, () => putLoad(run, demand)));

  // The receiver takes no more of them until the gate is opened, and what it takes never gets an answer.
  const firstWaiting = run.takeNumbers(0);
  const nothingArrives = (): boolean => false;
  const published = await putLoad(
    run,
    {
      ...demand,
      request: batchRequest(server.token, waiting),
      pace: closedBatchLoop,
      seconds: 3_600,
      events: backlog,
    },
    nothingArrives,
  );
  const stored = published.load.accepted.reduce((sum, value) => sum + value, 0);

  const beside = await costing(run, subject, () => putLoad(run, demand));

  await receiver.call("begin", firstWaiting);
  const openedAtUs = nowUs();
  await receiver.call("gate", true);
  let firstAtUs = 0;
  let first = 0;
  let distinct = 0;
  while (distinct < sample && nowUs() - openedAtUs < drainMs * 1e3) {
    await sleep(20);
    ({ distinct } = await receiver.call("progress"));
    if (distinct > 0 && firstAtUs === 0) {
      firstAtUs = nowUs();
      first = distinct;
    }
  }
  const drainedAtUs = nowUs();
  await receiver.call("end");
  const measured = toMeasurement(beside);
  return {
    ...measured,
    figures: {
      ...measured.figures,
      waiting: stored,
      "stored/s": (stored * 1e6) / (published.load.endedAtUs - published.load.startedAtUs),
      "events/s before": alone.eventsPerSecond!,
      "MiB before": alone.service.rssMiB,
      "first drained after s": (firstAtUs - openedAtUs) / 1e6,
      "drained/s": ((distinct - first) * 1e6) / (drainedAtUs - firstAtUs),
    },
  };
}
