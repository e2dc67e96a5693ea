// `node bench/profile.ts <file.cpuprofile> …`: where the time of CPU profiles went, by part and by function.
import { readFileSync } from "node:fs";

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

/** What V8 writes as `.cpuprofile`. */
export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  /** Microseconds since the sample before. */
  readonly timeDeltas: readonly number[];
}

/** The parts of the service by their files; the first that fits. */
const parts: readonly (readonly [part: string, url: RegExp])[] = [
  [
    "start-up: loading modules",
    /node:internal\/(?:modules|bootstrap|main|source_map)|node:internal\/deps\/(?:amaro|minimatch)|node:module/,
  ],
  ["http in: fastify", /node_modules\/(?:fastify|@fastify|find-my-way|avvio|light-my-request|secure-json)/],
  [
    "http out",
    /node_modules\/undici|^wasm:|node:internal\/url|delivery\/worker\/(?:send|guard|connect|exchange|answer|deadlines|destination|names|subnets|proxy|tls)/,
  ],
  ["json and validation", /node_modules\/(?:zod|ajv)|delivery\/api\/(?:raw-member|input|fields)/],
  ["store: pg", /node_modules\/(?:pg|pg-[^/]+|postgres-[^/]+)\//],
  ["store", /delivery\/store\/|node:sqlite/],
  ["sign, tokens, random", /standard-webhooks|constant-time|core\/ids|node:internal\/crypto|node:crypto/],
  ["log", /node_modules\/(?:pino|thread-stream|sonic-boom)/],
  ["engine", /delivery\/(?:worker|core|dialects)\//],
  ["http in: routes", /delivery\/api\//],
  ["http in: node:http", /node:_http|node:internal\/http|node:http|node:internal\/freelist/],
  [
    "sockets and streams",
    /node:net|node:internal\/(?:streams|stream_base|net)|node:stream|node:events|node:internal\/event|node:buffer|node:internal\/buffer/,
  ],
  [
    "timers and ticks",
    /node:internal\/(?:timers|process|async_hooks|abort|priority_queue|linkedlist)|node:timers/,
  ],
];

/** A share of the time in which the process did something. */
export interface Share {
  readonly name: string;
  readonly share: number;
}

/** Self time by part, and by function with its place, largest first; idle time is left out. */
export function summarizeProfile(profile: CpuProfile): {
  parts: Share[];
  functions: Share[];
  busyMs: number;
} {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map<number, ProfileNode>();
  for (const node of profile.nodes) for (const child of node.children ?? []) parents.set(child, node);
  const byPart = new Map<string, number>();
  const byFunction = new Map<string, number>();
  let busyUs = 0;
  profile.samples.forEach((id, index) => {
    const node = nodes.get(id);
    const us = profile.timeDeltas[index] ?? 0;
    if (!node || node.callFrame.functionName === "(idle)") return;
    busyUs += us;
    add(byPart, partOf(node, parents), us);
    add(byFunction, nameOf(node), us);
  });
  const toShares = (times: Map<string, number>): Share[] =>
    [...times].map(([name, us]) => ({ name, share: us / busyUs })).sort((a, b) => b.share - a.share);
  return { parts: toShares(byPart), functions: toShares(byFunction), busyMs: busyUs / 1e3 };
}

/** Native code counts for the JavaScript that called it. */
function partOf(node: ProfileNode, parents: ReadonlyMap<number, ProfileNode>): string {
  if (node.callFrame.functionName === "(garbage collector)") return "gc";
  for (let at: ProfileNode | undefined = node; at; at = parents.get(at.id)) {
    const { url } = at.callFrame;
    if (url === "") continue;
    return parts.find(([, pattern]) => pattern.test(url))?.[0] ?? "other";
  }
  return node.callFrame.functionName === "(program)" ? "native, outside of JavaScript" : "other";
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const place = url.replace(/^.*\/(?=node_modules\/|delivery\/|bench\/)/, "");
  return place === "" ? functionName : `${functionName || "(anonymous)"} ${place}:${lineNumber + 1}`;
}

function add(times: Map<string, number>, key: string, us: number): void {
  times.set(key, (times.get(key) ?? 0) + us);
}

/** The summary as Markdown, with so many functions. */
export function profileText(profile: CpuProfile, functions = 40): string {
  const summary = summarizeProfile(profile);
  const line = ({ name, share }: Share): string => `| ${name} | ${(share * 100).toFixed(1)} % |`;
  const table = (title: string, shares: readonly Share[]): string =>
    [`| ${title} | self time |`, "|---|---:|", ...shares.map(line)].join("\n");
  return [
    `Busy for ${(summary.busyMs / 1e3).toFixed(1)} s.`,
    table("part", summary.parts),
    table("function", summary.functions.slice(0, functions)),
  ].join("\n\n");
}

if (import.meta.main) {
  for (const file of process.argv.slice(2)) {
    const profile = JSON.parse(readFileSync(file, "utf8")) as CpuProfile;
    process.stdout.write(`${file}\n\n${profileText(profile)}\n\n`);
  }
}
