import { Option } from "commander";
import type { Setting } from "../delivery/config.ts";

/** A setting as an option of a command, whose help tells its default and its variable. */
export function toOption({ flag, variable, description, defaultText }: Setting): Option {
  const standard = defaultText === "" ? "" : `default: ${defaultText}; `;
  const option = new Option(flag, `${description} (${standard}${variable})`);
  // To commander, a name that begins with "no-" switches another option off. Here it is a name like any other.
  option.negate = false;
  return option;
}
