/**
 * Hints that keep traffic near its source, from spec.trafficDistribution (KEP-4444, KEP-3015): each ready endpoint says which
 * zone, or which node, should use it. Pure.
 *
 * PreferSameNode says both, so that a node without an endpoint falls back to its zone. Endpoints that are not ready carry
 * none, as in Kubernetes: proxies look at hints of ready ones only.
 */
import type { SliceEndpoint } from '../../kube/types.ts';

type Hints = NonNullable<SliceEndpoint['hints']>;

export function hintsOf(trafficDistribution: string | undefined, endpoint: SliceEndpoint): Hints | undefined {
  const { conditions, zone, nodeName } = endpoint;
  if (!conditions?.ready) return undefined;
  const forZones = zone ? [{ name: zone }] : [];
  switch (trafficDistribution) {
    case 'PreferClose':
    case 'PreferSameZone':
      return some({ forZones });
    case 'PreferSameNode':
      return some({ forZones, forNodes: nodeName ? [{ name: nodeName }] : [] });
    default:
      return undefined;
  }
}

/** Without empty lists; undefined when nothing is left. */
function some({ forZones = [], forNodes = [] }: Hints): Hints | undefined {
  if (forZones.length + forNodes.length === 0) return undefined;
  return { ...(forZones.length > 0 ? { forZones } : {}), ...(forNodes.length > 0 ? { forNodes } : {}) };
}
