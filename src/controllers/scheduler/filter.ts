/** What a filter of the scheduler is, and what it sees. */
import type { NamespaceLabels } from './affinity.ts';
import type { NodeInfo } from './cluster-state.ts';

/** Why the node will not do, in the words of Kubernetes' scheduler; nothing when it will. */
export type Filter = (node: NodeInfo) => readonly string[];

export interface Cluster {
  readonly nodes: readonly NodeInfo[];
  readonly namespaceLabels: NamespaceLabels;
}
