/** Frontends -> virtual services of IPVS, elements of the nftables table, addresses of the dummy device. Pure. */
import type { IpAddress } from '../../../base/ip.ts';
import { IPVS_MARK } from '../../../base/packet-marks.ts';
import type { VirtualService } from '../../../linux/ipvs.ts';
import { type Endpoint, type Frontend, frontendKey, type Target } from '../model.ts';
import { Code, type MAPS, type SETS } from './chains.ts';

export type SetName = (typeof MAPS)[number] | (typeof SETS)[number];

/** An element; several frontends may ask for the same one. */
export interface Element {
  readonly set: SetName;
  readonly key: string;
  /** The code, in maps. */
  readonly value?: number;
}

export interface RealServerText {
  readonly address: IpAddress;
  readonly port: number;
}

export interface RenderedService {
  readonly service: VirtualService;
  readonly servers: readonly RealServerText[];
}

export interface RenderedFrontend {
  readonly services: readonly RenderedService[];
  readonly elements: readonly Element[];
  /** To be bound to the dummy device; addresses of the node are bound already. */
  readonly address: IpAddress | undefined;
}

/** Round robin: every kernel with IPVS has it, and a new endpoint is not flooded as with least connections. */
const SCHEDULER = 'rr';
/**
 * Maglev hashing of the client's address, in the place of persistence where clients outside have a service of their own: IPVS does
 * not translate ports for a mark and persistence together (ip_vs_sched_persist).
 */
const AFFINITY_SCHEDULER = 'mh';

/** Renders one frontend; `fwmark` is the mark of its clients outside, where they go elsewhere than the rest. */
export function renderFrontend(frontend: Frontend, fwmark: number): RenderedFrontend {
  const { family, address, protocol, port, role, inside, outside, sourceRanges } = frontend;
  const key = frontendKey(frontend);
  const persistenceSeconds = frontend.affinitySeconds;
  const services: RenderedService[] = [];
  if (inside.kind === 'endpoints')
    services.push({
      service: { family, protocol, address, port, scheduler: SCHEDULER, persistenceSeconds },
      servers: inside.endpoints,
    });
  if (outside?.kind === 'endpoints')
    services.push({
      service: {
        family,
        fwmark: fwmarkOf(fwmark),
        scheduler: persistenceSeconds === undefined ? SCHEDULER : AFFINITY_SCHEDULER,
        persistenceSeconds: undefined,
      },
      servers: outside.endpoints,
    });
  const isNodes = role === 'nodePort' || role === 'hostPort';
  const elements: Element[] = [
    { set: 'from-pods', key, value: code(inside, frontend.masquerade) },
    { set: 'from-node', key, value: code(inside, true) },
    { set: 'from-outside', key, value: outsideCode(frontend, fwmark) },
    ...(isNodes ? [] : [{ set: 'virtual-addresses', key: address } as const]),
    ...hairpins(inside),
    ...(outside ? [{ set: 'local-policy', key } as const] : []),
    ...(sourceRanges ? [{ set: 'firewalled', key } as const] : []),
    ...(sourceRanges ?? []).map((range) => ({ set: 'firewall-allowed', key: `${key} . ${range}` }) as const),
  ];
  return { services, elements, address: isNodes ? undefined : address };
}

/** The mark as packets have it when IPVS looks. */
function fwmarkOf(fwmark: number): number {
  return (fwmark | IPVS_MARK) >>> 0;
}

function code(target: Target, masquerade: boolean): number {
  if (target.kind === 'endpoints') return masquerade ? Code.masquerade : Code.pass;
  return target.kind === 'reject' ? Code.refuse : Code.drop;
}

/** Clients outside: always masqueraded at a ClusterIP; never when they keep to this node. */
function outsideCode({ role, inside, outside, masquerade }: Frontend, fwmark: number): number {
  if (outside?.kind === 'endpoints') return fwmark;
  if (outside) return code(outside, false);
  return code(inside, masquerade || role === 'clusterIP');
}

/** Pods of this node that may meet themselves, or endpoints of which nobody said where they run. */
function hairpins(target: Target): readonly Element[] {
  if (target.kind !== 'endpoints') return [];
  const near = target.endpoints.filter((each: Endpoint) => each.local || each.unplaced);
  return near.map(({ address }) => ({ set: 'hairpin', key: `${address} . ${address}` }));
}
