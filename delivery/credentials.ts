/** Who may call the service: the administrator's token, and for each vendor account what its dialect folder declares. */
export interface Credentials {
  readonly admin: { readonly token: string };
  readonly [account: string]: unknown;
}
