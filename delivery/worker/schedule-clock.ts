/** The clock that retries and rates go by. */
export interface ScheduleClock {
  /** Milliseconds since the epoch, as the database's clock has it. */
  now(): number;
  /** Takes over how far the database's clock is ahead of this machine's. */
  setOffset(offsetMs: number): void;
  /** Goes on from this time where it is behind it: a clock before this one has come so far. */
  notBefore(time: number): void;
}

/** A wall clock that runs behind by less than this is waited for; it was adjusted rather than set. */
const adjustmentMs = 1_000;

/**
 * A clock that never goes back and never stands still for long: when the wall clock is set back, it goes on at its own
 * pace until the other has caught up, so that no retry waits for the hour that came twice. A clock that is set forward
 * makes retries due early.
 *
 * @param wall milliseconds since the epoch
 * @param monotonic milliseconds since any moment
 */
export function createScheduleClock(
  wall: () => number = Date.now,
  monotonic: () => number = () => performance.now(),
): ScheduleClock {
  let offsetMs = 0;
  let last = wall();
  let lastMonotonic = monotonic();

  function advance(): number {
    const wallNow = wall() + offsetMs;
    const monotonicNow = monotonic();
    const expected = last + (monotonicNow - lastMonotonic);
    lastMonotonic = monotonicNow;
    last =
      wallNow >= expected ? wallNow : expected - wallNow < adjustmentMs ? Math.max(last, wallNow) : expected;
    return last;
  }

  return {
    now: () => Math.floor(advance()),
    setOffset(ms) {
      offsetMs = ms;
    },
    notBefore(time) {
      last = Math.max(advance(), time);
    },
  };
}
