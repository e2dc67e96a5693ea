import { validateHeaderName, validateHeaderValue } from "node:http";
import { z } from "zod";
import { unknownName } from "./nearest.ts";

/**
 * The kinds of input that several APIs share, each with a message that says what is wrong and quotes the value. Add
 * `.meta({ description, … })` and, where it may be left out, `.optional()` or `.default(…)`.
 */

/** An absolute http(s) URL without credentials: it stands in plain text in the state. Kept as it is written. */
export function httpUrl(): z.ZodString {
  return z.string().check((context) => {
    const reason = urlFault(context.value);
    if (reason) context.issues.push({ code: "custom", input: context.value, message: reason });
  });
}

/** The base URL of an API: as `httpUrl`, without trailing slashes, query and fragment. */
export function baseUrl(): z.ZodPipe<z.ZodString, z.ZodTransform<string, string>> {
  return httpUrl()
    .refine((value) => !/[?#]/.test(value), "must not have a query or a fragment")
    .transform((value) => value.replace(/\/+$/, ""));
}

function urlFault(value: string): string | undefined {
  // The URL standard would drop these silently, and the vendor would then keep another text than the program has.
  // eslint-disable-next-line no-control-regex -- exactly those are looked for
  if (/[\u0000-\u0020\u007f]/.test(value))
    return "must not hold spaces or control characters; percent-encode them";
  if (!URL.canParse(value)) {
    return `must be an absolute http or https URL, such as "https://example.com/hooks", not "${shown(value)}"`;
  }
  const url = new URL(value);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return `must be an http or https URL, not "${shown(value)}"`;
  }
  if (!/^https?:\/\//i.test(value)) return `must have "//" after "${url.protocol}"`;
  if (url.username || url.password) {
    return `must not hold credentials, which would stand in plain text in the state; remove what is before "@${url.host}"`;
  }
  return undefined;
}

/** What looks like credentials is not repeated. */
function shown(value: string): string {
  return value.replace(/\/\/[^/@]*@/, "//***@").slice(0, 200);
}

/** One of the known names. `what` is the kind, such as `PAVE event`; the message lists them all and the nearest. */
export function knownName<const Names extends readonly string[]>(
  what: string,
  names: Names,
): z.ZodEnum<z.core.util.ToEnum<Names[number]>> {
  return z.enum(names, {
    error: ({ input }) => (typeof input === "string" ? unknownName(what, input, names) : undefined),
  });
}

/** `GET` or `POST`, in any case; kept in upper case. */
export function httpMethod(): z.ZodPipe<
  z.ZodPipe<z.ZodString, z.ZodTransform<string, string>>,
  z.ZodEnum<{ GET: "GET"; POST: "POST" }>
> {
  const method = z.enum(["GET", "POST"], {
    error: ({ input }) => `must be "GET" or "POST", not "${String(input)}"`,
  });
  return z
    .string()
    .transform((value) => value.toUpperCase())
    .pipe(method);
}

/** Header names and values that HTTP allows. Values are secret: no message repeats one. */
export function headerMap(): z.ZodRecord<z.ZodString, z.ZodString> {
  const names = z.string().refine((name) => isAllowed(validateHeaderName, name), {
    error: ({ input }) =>
      `"${String(input)}" is no header name: HTTP allows letters, digits and !#$%&'*+-.^_\`|~ (RFC 9110, 5.6.2)`,
  });
  const values = z.string().refine((value) => isAllowed(validateHeaderValue, "x", value), {
    error: "the value holds a character that HTTP forbids in a header, such as a line break (RFC 9110, 5.5)",
  });
  return z.record(names, values).check(
    always<Record<string, string>>((context) => {
      const seen = new Map<string, string>();
      for (const name of Object.keys(context.value)) {
        const first = seen.get(name.toLowerCase());
        seen.set(name.toLowerCase(), name);
        if (first === undefined) continue;
        const message = `"${name}" and "${first}" are one header: names have no case`;
        context.issues.push({ code: "custom", input: context.value, path: [name], message });
      }
    }),
  );
}

/** A check of a whole list or map that is made even where one of its parts is wrong already: all faults are told at once. */
function always<T>(fn: z.core.CheckFn<T>): z.core.$ZodCheck<T> {
  const check = z.core._check<T>(fn);
  check._zod.def.when = ({ value }) => typeof value === "object" && value !== null;
  return check;
}

function isAllowed<Args extends string[]>(validate: (...args: Args) => void, ...args: Args): boolean {
  try {
    validate(...args);
    return true;
  } catch {
    return false;
  }
}

/** A list without repetitions, in which each repetition is reported at its place. */
export function distinctList<Item extends z.ZodType<string>>(item: Item): z.ZodArray<Item> {
  const report = (list: readonly unknown[], context: z.core.$RefinementCtx): void => {
    list.forEach((value, index) => {
      if (list.indexOf(value) < index) {
        const message = `"${String(value)}" is in the list twice`;
        context.addIssue({ code: "custom", input: value, path: [index], message });
      }
    });
  };
  // Asked for although an item may be wrong as well: all faults are told at once.
  return z.array(item).superRefine(report, { when: ({ value }) => Array.isArray(value) });
}
