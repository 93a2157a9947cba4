/** Which pods belong to which Services, by indexes over label pairs, so that a change costs its labels, not all objects. */
import type { Lister } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import { fromMap, type Labels, matches } from '../../kube/selectors.ts';
import type { Pod, Service } from '../../kube/types.ts';
import type { ControllerContext } from '../informers.ts';
import { addPodsByNode } from '../pods-by-node.ts';

const byLabelPair = 'label-pair';
const bySelectorPair = 'selector-pair';

const pair = (namespace: string, key: string, value: string) => `${namespace}/${key}=${value}`;

/** The indexes that `podsOf` and `servicesOf` use. May be called by several controllers. */
export function addSelectionIndexes(context: ControllerContext): void {
  const { informers } = context;
  addPodsByNode(context);
  informers
    .of('Pod')
    .addIndex(byLabelPair, ({ metadata }) =>
      Object.entries(metadata.labels ?? {}).map(([key, value]) => pair(metadata.namespace, key, value)),
    );
  informers.of('Service').addIndex(bySelectorPair, (service) => {
    const first = selectorOf(service)[0];
    return first ? [pair(service.metadata.namespace, first[0], first[1])] : [];
  });
}

function selectorOf({ spec }: Service): readonly (readonly [string, string])[] {
  return Object.entries(spec.selector ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Whether the controllers keep endpoints for the Service: it selects pods, and is no mere name. */
export function isManaged(service: Service): boolean {
  return service.spec.type !== 'ExternalName' && Object.keys(service.spec.selector ?? {}).length > 0;
}

/** The pods that the Service selects, in the order of their names. */
export function podsOf(service: Service, pods: Lister<Pod>): readonly Pod[] {
  const first = selectorOf(service)[0];
  if (!first) return [];
  const selector = fromMap(service.spec.selector);
  return pods
    .byIndex(byLabelPair, pair(service.metadata.namespace, first[0], first[1]))
    .filter((pod) => matches(selector, pod.metadata.labels))
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** The keys of the Services that select a pod with these labels. */
export function servicesOf(
  namespace: string,
  labels: Labels | undefined,
  services: Lister<Service>,
): readonly string[] {
  return Object.entries(labels ?? {}).flatMap(([key, value]) =>
    services
      .byIndex(bySelectorPair, pair(namespace, key, value))
      .filter((service) => matches(fromMap(service.spec.selector), labels))
      .map(keyOf),
  );
}
