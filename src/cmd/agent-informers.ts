/** What an agent watches: one copy of each kind, shared by all that it does. */
import { systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { compactObject } from '../kube/compact.ts';
import type { HttpClient } from '../kube/http-client.ts';
import { Informer } from '../kube/informer.ts';
import { apiResources } from '../kube/names.ts';
import { isNotFound } from '../kube/status.ts';

const RETRY_MS = 200;

/**
 * Whether the API server serves ClusterNetworkPolicy: elsewhere it is a CustomResourceDefinition that may not be there. Only
 * a clear no counts; while there is no answer the agent waits, because starting without them would open holes.
 */
async function servesClusterPolicies(client: HttpClient, log: Logger, signal: AbortSignal): Promise<boolean> {
  const { group, version } = apiResources.ClusterNetworkPolicy;
  for (;;) {
    try {
      await client.text({ method: 'GET', path: `/apis/${group}/${version}` });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      log.debug({ error }, `asking for ${group}: ${messageOf(error)}`);
      await systemClock.sleep(RETRY_MS, signal);
    }
  }
}

/** One informer of each kind that an agent watches, not started. */
export async function createInformers(client: HttpClient, log: Logger, signal: AbortSignal) {
  const hasClusterPolicies = await servesClusterPolicies(client, log, signal);
  const all = { client, log };
  return {
    nodes: new Informer('Node', all),
    pods: new Informer('Pod', all),
    services: new Informer('Service', { ...all, transform: compactObject }),
    slices: new Informer('EndpointSlice', { ...all, transform: compactObject }),
    namespaces: new Informer('Namespace', all),
    policies: new Informer('NetworkPolicy', all),
    ...(hasClusterPolicies ? { clusterPolicies: new Informer('ClusterNetworkPolicy', all) } : {}),
  };
}
