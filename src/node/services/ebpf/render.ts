/**
 * What of a frontend is done at the socket, from its model alone. All of it is in the nftables rules as well, for packets
 * of others; so whatever a socket cannot decide is left to them.
 */
import { type EndpointText, endpointText, type Frontend } from '../model.ts';
import { type FrontendAddress, type KindName, MAX_ENDPOINTS } from './schema.ts';

/** A frontend as the programs know it. */
export interface SocketFrontend {
  readonly at: FrontendAddress;
  readonly kind: KindName;
  /** Empty unless the kind is `endpoints`. */
  readonly endpoints: readonly EndpointText[];
  /** 0: no affinity. */
  readonly affinitySeconds: number;
}

const NO_ENDPOINTS: readonly EndpointText[] = [];

/**
 * Undefined where a socket is never translated:
 * - node ports and host ports, which are the packet's business everywhere;
 * - load balancers with source ranges: a socket that is not bound has no source yet that could be judged.
 */
export function renderFrontend(frontend: Frontend): SocketFrontend | undefined {
  const { role, sourceRanges, inside, family, address, protocol, port, affinitySeconds = 0 } = frontend;
  if (role === 'nodePort' || role === 'hostPort' || sourceRanges) return undefined;
  const at = { family, address, protocol, port };
  switch (inside.kind) {
    case 'endpoints':
      return {
        at,
        kind: 'endpoints',
        endpoints: inside.endpoints.slice(0, MAX_ENDPOINTS).map(endpointText),
        affinitySeconds,
      };
    case 'reject':
      // A UDP socket may be connected before there is anybody to answer: only what it sends is refused.
      return { at, kind: protocol === 'tcp' ? 'reject' : 'pass', endpoints: NO_ENDPOINTS, affinitySeconds };
    case 'drop':
      // Silence is something that only a packet can meet.
      return { at, kind: 'pass', endpoints: NO_ENDPOINTS, affinitySeconds };
  }
}

/** Whether the programs have to be able to tell that an endpoint is one of the frontend's. */
export function hasMembers({ at, affinitySeconds }: SocketFrontend): boolean {
  return at.protocol === 'udp' || affinitySeconds > 0;
}
