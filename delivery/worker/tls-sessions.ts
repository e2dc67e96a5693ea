/** TLS sessions to be resumed, which spares both sides most of a handshake. */
export interface TlsSessions {
  get(key: string): Buffer | undefined;
  /** Takes the place of the last one of this key. */
  keep(key: string, session: Buffer): void;
}

/** @param maxSessions those that were kept last stay */
export function createTlsSessions(maxSessions: number): TlsSessions {
  const sessions = new Map<string, Buffer>();
  return {
    get: (key) => sessions.get(key),
    keep(key, session) {
      sessions.delete(key);
      sessions.set(key, session);
      for (const oldest of sessions.keys()) {
        if (sessions.size <= maxSessions) break;
        sessions.delete(oldest);
      }
    },
  };
}
