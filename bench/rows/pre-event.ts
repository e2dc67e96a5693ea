import { readFileSync } from "node:fs";
import path from "node:path";
import type { TwilioCredentials } from "../management.ts";
import { costing, putLoad, subjectOf, toMeasurement, warmUp, type Demand } from "../measurement.ts";
import { openLoop } from "../publishing.ts";
import { eventText, type RequestText } from "../request-template.ts";
import { receiverUrl, withService, type Row } from "../run.ts";
import { percentile, toLatency } from "../statistics.ts";

/** What the receiver takes for its decision. */
const decisionMs = 5;

/** (f): Twilio's pre-event, whose publisher waits for the receiver's decision. */
export const preEventRows: readonly Row[] = [200, 1_000].map((requestsPerSecond) => ({
  letter: "f",
  id: `f${requestsPerSecond}`,
  title:
    `Twilio's blocking pre-event, open loop ${requestsPerSecond.toLocaleString("en")}/s: ` +
    `added to the receiver's ${decisionMs} ms`,
  measure: (run) =>
    withService(run, `f${requestsPerSecond}`, {}, async ({ server, management, dataDir }) => {
      const credentials = JSON.parse(readFileSync(path.join(dataDir, "credentials.json"), "utf8")) as {
        twilio: TwilioCredentials;
      };
      await management.twilioPreEvent(
        receiverUrl(run, `delay/${decisionMs}`),
        "onMessageAdd",
        credentials.twilio,
      );
      const demand: Demand = {
        ports: [server.port],
        request: hookRequest(server.token),
        pace: openLoop(requestsPerSecond),
        seconds: run.seconds * 3,
        targets: 1,
      };
      await warmUp(run, demand);
      const outcome = await costing(run, subjectOf([server]), () => putLoad(run, demand));
      const { answersMs } = outcome.load;
      const { holdsMs } = outcome.received;
      const added = answersMs.map((answerMs, index) => answerMs - (holdsMs[index] ?? Number.NaN));
      return toMeasurement(outcome, {
        eventsPerSecond: null,
        latency: toLatency(added.filter((ms) => !Number.isNaN(ms))),
        figures: { "receiver's own p50 ms": percentile(holdsMs.slice().sort(), 0.5) },
      });
    }),
}));

function hookRequest(token: string): RequestText {
  const payload = {
    ConversationSid: `CH${"0".repeat(32)}`,
    Author: "dave",
    Body: eventText(1024),
  };
  return {
    path: "/api/v1/app/twilio/hook",
    headers: { authorization: `Bearer ${token}` },
    body: JSON.stringify({ eventType: "onMessageAdd", payload }),
  };
}
