/** What the status of a Node (or, for its conditions, of a Pod) says. */
import type { Node } from './types.ts';

interface WithConditions {
  readonly status?:
    | { readonly conditions?: readonly { readonly type: string; readonly status: string }[] | undefined }
    | undefined;
}

/** Whether the condition Ready of a Node or Pod is True. */
export function isReady({ status }: WithConditions): boolean {
  return status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') ?? false;
}

/** A Node's addresses of type InternalIP, as they are written there, the primary one first. */
export function internalAddresses({ status }: Node): readonly string[] {
  return (status?.addresses ?? []).filter(({ type }) => type === 'InternalIP').map(({ address }) => address);
}
