/** The schemas by which a pod says where it may run: tolerations, affinity, spread. */
import { LabelSelector } from '../schema/meta.ts';
import { int32, int64, list, string, strings, use } from '../schema/schema.ts';
import { object } from './core-schema.ts';

export const Toleration = object('Toleration', {
  key: string(),
  operator: string({ enum: ['Equal', 'Exists', 'Gt', 'Lt'] }),
  value: string(),
  effect: string(),
  tolerationSeconds: int64({ keep: true }),
});

const NodeSelectorRequirement = object('NodeSelectorRequirement', {
  key: string({ required: true }),
  operator: string({ required: true }),
  values: strings(),
});
const NodeSelectorTerm = object('NodeSelectorTerm', {
  matchExpressions: list(NodeSelectorRequirement),
  matchFields: list(NodeSelectorRequirement),
});
const NodeSelector = object('NodeSelector', { nodeSelectorTerms: list(NodeSelectorTerm, { required: true }) });
const PodAffinityTerm = object('PodAffinityTerm', {
  labelSelector: LabelSelector,
  namespaces: strings(),
  topologyKey: string({ required: true }),
  namespaceSelector: LabelSelector,
  matchLabelKeys: strings(),
  mismatchLabelKeys: strings(),
});
const WeightedPodAffinityTerm = object('WeightedPodAffinityTerm', {
  weight: int32({ required: true }),
  podAffinityTerm: use(PodAffinityTerm, { required: true }),
});
const podAffinityFields = {
  requiredDuringSchedulingIgnoredDuringExecution: list(PodAffinityTerm),
  preferredDuringSchedulingIgnoredDuringExecution: list(WeightedPodAffinityTerm),
};
export const Affinity = object('Affinity', {
  nodeAffinity: object('NodeAffinity', {
    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector,
    preferredDuringSchedulingIgnoredDuringExecution: list(
      object('PreferredSchedulingTerm', {
        weight: int32({ required: true }),
        preference: use(NodeSelectorTerm, { required: true }),
      }),
    ),
  }),
  podAffinity: object('PodAffinity', podAffinityFields),
  podAntiAffinity: object('PodAntiAffinity', podAffinityFields),
});

export const TopologySpreadConstraint = object('TopologySpreadConstraint', {
  maxSkew: int32({ required: true }),
  topologyKey: string({ required: true }),
  whenUnsatisfiable: string({ required: true }),
  labelSelector: LabelSelector,
  minDomains: int32({ keep: true }),
  nodeAffinityPolicy: string({ keep: true }),
  nodeTaintsPolicy: string({ keep: true }),
  matchLabelKeys: strings(),
});
