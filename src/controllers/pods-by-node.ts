/** The index from a node to the pods that are bound to it. */
import type { ControllerContext } from './informers.ts';

export const podsByNode = 'node';

/** May be called by several controllers. */
export function addPodsByNode({ informers }: ControllerContext): void {
  informers.of('Pod').addIndex(podsByNode, ({ spec }) => (spec.nodeName ? [spec.nodeName] : []));
}
