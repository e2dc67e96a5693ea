/** The members that have a value, so that spreading them over others changes no more than what was given. */
export function given<T extends object>(members: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  const entries = Object.entries(members) as [string, unknown][];
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as ReturnType<
    typeof given<T>
  >;
}
