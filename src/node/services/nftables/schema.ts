/**
 * The names and numbers of the Service rules: tables, maps, sets, and the codes by which a frontend chooses what is done.
 *
 * A code lives in the packet mark for the few instructions between the lookup of a frontend and the translation:
 *
 *     bit  30        masquerade (packet-marks.ts)
 *     bits 20-23     what is done            0  one of K endpoints at random      K in bits 0-19
 *                                            1  one of K endpoints of this node   K in bits 0-19
 *                                            2  stay with an endpoint             seconds in bits 0-19
 *                                            3  stay with one of this node        seconds in bits 0-19
 *                                            f  0xfffffe reject, 0xffffff drop
 *
 * A mark rather than a verdict, because changing a verdict map at ten thousand elements costs ten times as much.
 */
import type { Family } from '../../../base/ip.ts';
import { MASQUERADE_MARK } from '../../../base/packet-marks.ts';
import type { Frontend, Target } from '../model.ts';

export const TABLE_NAME = 'podwire-services';

/** "ip podwire-services" or "ip6 podwire-services". */
export function tableOf(family: Family): string {
  return `${family === 4 ? 'ip' : 'ip6'} ${TABLE_NAME}`;
}

/** The maps and sets whose elements follow the Services, in the order in which elements are written. */
export const ELEMENT_MAPS = [
  'endpoints',
  'affinity-endpoints',
  'affinity-picks',
  'affinity-counts',
  'affinity-local-counts',
  'firewall-allowed',
  'firewalled',
  'hairpin',
  'service-addresses',
  'services',
  'outside-services',
] as const;

/** The others whose elements podwire writes: by the cluster's CIDRs, and as chains are needed. */
export const FIXED_MAPS = [
  'dispatch',
  'affinity-dispatch',
  'affinity-local-dispatch',
  'pod-cidrs',
  'service-cidrs',
] as const;

const PLAIN_SETS: ReadonlySet<string> = new Set([
  'firewalled',
  'firewall-allowed',
  'hairpin',
  'service-addresses',
  'pod-cidrs',
  'service-cidrs',
]);

/** Whether nft knows it as a set, not as a map. */
export function isPlainSet(name: string): boolean {
  return PLAIN_SETS.has(name);
}

export type ElementMap = (typeof ELEMENT_MAPS)[number];

/** The most endpoints of one frontend: 20 bits of the code. */
export const MAX_ENDPOINTS = 0xfffff;
/** Slots of this node's endpoints, for policy Local, begin here. */
export const LOCAL_SLOT = 0x800000;
/** Set in the ids of this node's endpoints, so that a client remembered under one policy is unknown to the other. */
export const LOCAL_ID = 0x80000000;

export const Code = { random: 0x000000, local: 0x100000, affinity: 0x200000, affinityLocal: 0x300000 } as const;
export const REJECT_CODE = 0xfffffe;
export const DROP_CODE = 0xffffff;
/** The part of the mark that is a code. */
export const CODE_MASK = 0xffffff;

/** The code of a target, without the masquerade bit. */
export function codeOf(target: Target, scope: 'cluster' | 'local', affinitySeconds: number | undefined): number {
  switch (target.kind) {
    case 'reject':
      return REJECT_CODE;
    case 'drop':
      return DROP_CODE;
    case 'endpoints': {
      if (affinitySeconds !== undefined)
        return (scope === 'local' ? Code.affinityLocal : Code.affinity) + affinitySeconds;
      return (scope === 'local' ? Code.local : Code.random) + target.endpoints.length;
    }
  }
}

/** The value of a frontend in the map `services`: its code, and the masquerade bit if every source is rewritten. */
export function insideCode(frontend: Frontend): number {
  const code = codeOf(frontend.inside, 'cluster', frontend.affinitySeconds);
  return frontend.masquerade && frontend.inside.kind === 'endpoints' ? code + MASQUERADE_MARK : code;
}

/** The value in the map `outside-services`, if the frontend has one there. */
export function outsideCode(frontend: Frontend): number | undefined {
  return frontend.outside && codeOf(frontend.outside, 'local', frontend.affinitySeconds);
}
