/** The addresses in a Node's status. */
import type { Node } from './types.ts';

/** Those of type InternalIP, as they are written there, the primary one first. */
export function internalAddresses({ status }: Node): readonly string[] {
  return (status?.addresses ?? []).filter(({ type }) => type === 'InternalIP').map(({ address }) => address);
}
