/** Microseconds of the machine's monotonic clock: on Linux the same clock in every process, and no NTP step moves it. */
export function nowUs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + nanoseconds / 1e3;
}
