/**
 * The names and numbers of the Service rules: tables, maps, sets, and the codes by which a frontend chooses what is done.
 *
 * A code lives in the packet mark for the few instructions between the lookup of a frontend and the translation:
 *
 *     bit  30        masquerade (packet-marks.ts)
 *     bit  28        only sources that the set firewall-allowed names
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
import type { Field, SetLayout } from '../../../linux/set-elements.ts';
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
  'hairpin',
  'service-addresses',
  'services',
  'outside-services',
] as const;

/** Maps that lead to chains: their elements come with the chains. */
export const DISPATCH_MAPS = ['dispatch', 'affinity-dispatch', 'affinity-local-dispatch'] as const;

/** Sets of the cluster's CIDRs, written with the tables. */
export const CIDR_SETS = ['pod-cidrs', 'own-pod-cidrs', 'service-cidrs'] as const;

const PLAIN_SETS: ReadonlySet<string> = new Set(['firewalled', 'firewall-allowed', 'hairpin', 'service-addresses']);

/** Whether nft knows it as a set, not as a map. */
export function isPlainSet(name: string): boolean {
  return PLAIN_SETS.has(name);
}

export type ElementMap = (typeof ELEMENT_MAPS)[number];
export type DispatchMap = (typeof DISPATCH_MAPS)[number];

const LAYOUTS: ReadonlyMap<Family, Readonly<Record<ElementMap | DispatchMap, SetLayout>>> = new Map(
  ([4, 6] as const).map((family) => [family, layouts(family)]),
);

/** What the kernel has to be told of a map or set whose elements are written without nft; as declared in `chains.ts`. */
export function layoutOf(family: Family, map: ElementMap | DispatchMap): SetLayout {
  return LAYOUTS.get(family)![map];
}

function layouts(family: Family): Readonly<Record<ElementMap | DispatchMap, SetLayout>> {
  const address: Field = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const frontend: readonly Field[] = [address, 'inet_proto', 'inet_service'];
  const endpoint: readonly Field[] = [address, 'inet_service'];
  const layout = (name: string, key: readonly Field[], value?: SetLayout['value']): SetLayout => ({
    family,
    table: TABLE_NAME,
    name,
    key,
    value,
  });
  const dispatch = (name: DispatchMap) => layout(name, ['mark'], 'verdict');
  return {
    endpoints: layout('endpoints', [...frontend, 'mark'], endpoint),
    'affinity-endpoints': layout('affinity-endpoints', [...frontend, 'mark'], endpoint),
    'affinity-picks': layout('affinity-picks', [...frontend, 'mark'], ['mark']),
    'affinity-counts': layout('affinity-counts', frontend, ['mark']),
    'affinity-local-counts': layout('affinity-local-counts', frontend, ['mark']),
    'firewall-allowed': { ...layout('firewall-allowed', [...frontend, address]), interval: true },
    hairpin: layout('hairpin', [address, address]),
    'service-addresses': layout('service-addresses', [address]),
    services: layout('services', frontend, ['mark']),
    'outside-services': layout('outside-services', frontend, ['mark']),
    dispatch: dispatch('dispatch'),
    'affinity-dispatch': dispatch('affinity-dispatch'),
    'affinity-local-dispatch': dispatch('affinity-local-dispatch'),
  };
}

/** The most endpoints of one frontend: 20 bits of the code. */
export const MAX_ENDPOINTS = 0xfffff;
/** Slots of this node's endpoints, for policy Local, begin here. */
export const LOCAL_SLOT = 0x800000;
/** Set in the ids of this node's endpoints, so that a client remembered under one policy is unknown to the other. */
export const LOCAL_ID = 0x80000000;

export const Code = { random: 0x000000, local: 0x100000, affinity: 0x200000, affinityLocal: 0x300000 } as const;
export const REJECT_CODE = 0xfffffe;
export const DROP_CODE = 0xffffff;
/** Set in the codes of a frontend with loadBalancerSourceRanges. */
export const FIREWALLED = 0x10000000;
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

const firewallBit = (frontend: Frontend): number => (frontend.sourceRanges ? FIREWALLED : 0);

/** The value of a frontend in the map `services`: its code, and the bits for a source that is rewritten or asked for. */
export function insideCode(frontend: Frontend): number {
  const code = codeOf(frontend.inside, 'cluster', frontend.affinitySeconds) + firewallBit(frontend);
  return frontend.masquerade && frontend.inside.kind === 'endpoints' ? code + MASQUERADE_MARK : code;
}

/** The value in the map `outside-services`, if the frontend has one there. */
export function outsideCode(frontend: Frontend): number | undefined {
  return frontend.outside && codeOf(frontend.outside, 'local', frontend.affinitySeconds) + firewallBit(frontend);
}
