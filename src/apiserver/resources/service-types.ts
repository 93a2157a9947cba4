/** What the types of Services differ in. */
import type { Service } from '../../kube/types.ts';
import type { Draftable } from './kind.ts';

export type ServiceDraft = Draftable<Service>;
export type ServiceSpecDraft = ServiceDraft['spec'];

export const opensNodePorts = (type: string | undefined) => type === 'NodePort' || type === 'LoadBalancer';
export const hasClusterIp = (type: string | undefined) => type !== 'ExternalName';
/** The port on which nodes tell a load balancer whether they have local endpoints. */
export const needsHealthCheckPort = (spec: ServiceSpecDraft) =>
  spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
