/** What the inbox keeps at most, in all and per name; the oldest goes first. */
export const inboxLimits = { names: 100, requestsPerName: 1000, bytes: 64 * 1024 * 1024 };

/** Requests by the name of the inbox that received them: the last ones, in memory. */
export interface ReceivedRequests<T> {
  add(name: string, request: T): void;
  /** Oldest first; empty for a name that has received nothing. */
  of(name: string): readonly T[];
  clear(name: string): void;
}

/** @param sizeOf what a request counts towards the limit in bytes */
export function createReceivedRequests<T>(
  sizeOf: (request: T) => number,
  limits: typeof inboxLimits = inboxLimits,
): ReceivedRequests<T> {
  // In the order in which they last received something, the longest silent first.
  const byName = new Map<string, T[]>();
  let bytes = 0;

  function drop(name: string, count: number): void {
    const requests = byName.get(name) ?? [];
    for (const request of requests.splice(0, count)) bytes -= sizeOf(request);
    if (requests.length === 0) byName.delete(name);
  }

  return {
    add(name, request) {
      const requests = byName.get(name) ?? [];
      byName.delete(name);
      byName.set(name, requests);
      requests.push(request);
      bytes += sizeOf(request);
      if (requests.length > limits.requestsPerName) drop(name, 1);
      for (const silent of byName.keys()) {
        if (byName.size > limits.names) drop(silent, Infinity);
        while (bytes > limits.bytes && byName.has(silent)) drop(silent, 1);
      }
    },
    of: (name) => byName.get(name) ?? [],
    clear: (name) => {
      drop(name, Infinity);
    },
  };
}
