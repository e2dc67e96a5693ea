/** Where jobs gather that are done many at a time. */
export interface Lane<J> {
  /** @param isUrgent that somebody waits for it, so that it does not wait for others */
  push(job: J, isUrgent?: boolean): void;
  /** Resolves once all jobs that are in it have been done. */
  drain(): Promise<void>;
  /** Takes out the jobs that nobody has begun. */
  takeWaiting(): J[];
}

/** What a lane takes at a time. */
export interface LaneOptions<J> {
  /** How many batches may be under way. */
  readonly width: number;
  /** Jobs of a batch, at most. */
  readonly maxJobs: number;
  /** Bytes of a batch, at most, but for a single job that is larger. */
  readonly maxBytes: number;
  readonly bytesOf: (job: J) => number;
  /** How long jobs that are not urgent may wait for others to share their batch with; 0 for no such wait. */
  readonly lingerMs: number;
  /** What jobs of one batch must not have in common. */
  readonly keysOf: (job: J) => readonly string[];
}

/**
 * A lane that does its jobs in the order they came: those of one turn of the event loop together and, while `width`
 * batches are under way, those that come meanwhile.
 *
 * @param run does the jobs of a batch; it answers each of them, and never throws
 */
export function createLane<J>(
  { width, maxJobs, maxBytes, lingerMs, bytesOf, keysOf }: LaneOptions<J>,
  run: (jobs: J[]) => Promise<void>,
): Lane<J> {
  let waiting: J[] = [];
  let active = 0;
  let isScheduled = false;
  let lingering: NodeJS.Timeout | undefined;
  let drained: (() => void)[] = [];

  function take(): J[] {
    const keys = new Set<string>();
    let bytes = 0;
    let count = 0;
    for (const job of waiting) {
      bytes += bytesOf(job);
      const own = keysOf(job);
      if (count === maxJobs || (count > 0 && bytes > maxBytes) || own.some((key) => keys.has(key))) break;
      for (const key of own) keys.add(key);
      count++;
    }
    if (count === waiting.length) {
      const all = waiting;
      waiting = [];
      return all;
    }
    return waiting.splice(0, count);
  }

  function begin(): void {
    isScheduled = false;
    while (active < width && waiting.length > 0) {
      active++;
      void run(take()).finally(() => {
        active--;
        schedule();
      });
    }
    if (active === 0 && waiting.length === 0) {
      for (const resolve of drained) resolve();
      drained = [];
    }
  }

  function schedule(): void {
    clearTimeout(lingering);
    lingering = undefined;
    if (isScheduled) return;
    isScheduled = true;
    // All callbacks of this turn of the event loop get to add their jobs first.
    setImmediate(begin);
  }

  return {
    push(job, isUrgent = true) {
      waiting.push(job);
      if (active >= width || isScheduled) return;
      if (isUrgent || lingerMs === 0) schedule();
      else lingering ??= setTimeout(schedule, lingerMs);
    },
    drain() {
      return new Promise((resolve) => {
        drained.push(resolve);
        schedule();
      });
    },
    takeWaiting() {
      const jobs = waiting;
      waiting = [];
      return jobs;
    },
  };
}
