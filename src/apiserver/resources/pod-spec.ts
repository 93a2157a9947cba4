/** The schema of PodSpec and of everything inside it but containers, shared by Pod and by the kinds that hold pod templates. */
import { LabelSelector, ObjectMeta } from '../schema/meta.ts';
import {
  boolean,
  int32,
  int64,
  list,
  map,
  quantities,
  quantity,
  string,
  stringMap,
  strings,
  use,
  wire,
} from '../schema/schema.ts';
import {
  Container,
  EphemeralContainer,
  Profile,
  ResourceRequirements,
  SELinuxOptions,
  WindowsSecurityContextOptions,
} from './container-spec.ts';
import { coreObject as object } from './core-object.ts';
import { LocalObjectReference } from './references.ts';
import { Volume } from './volume.ts';

export const Toleration = object('Toleration', {
  key: wire(1, string()),
  operator: wire(2, string({ enum: ['Equal', 'Exists', 'Gt', 'Lt'] })),
  value: wire(3, string()),
  effect: wire(4, string()),
  tolerationSeconds: wire(5, int64({ keep: true })),
});

const NodeSelectorRequirement = object('NodeSelectorRequirement', {
  key: wire(1, string({ required: true })),
  operator: wire(2, string({ required: true })),
  values: wire(3, strings()),
});
const NodeSelectorTerm = object('NodeSelectorTerm', {
  matchExpressions: wire(1, list(NodeSelectorRequirement)),
  matchFields: wire(2, list(NodeSelectorRequirement)),
});
const NodeSelector = object('NodeSelector', { nodeSelectorTerms: wire(1, list(NodeSelectorTerm, { required: true })) });
const PodAffinityTerm = object('PodAffinityTerm', {
  labelSelector: wire(1, LabelSelector),
  namespaces: wire(2, strings()),
  topologyKey: wire(3, string({ required: true })),
  namespaceSelector: wire(4, LabelSelector),
  matchLabelKeys: wire(5, strings()),
  mismatchLabelKeys: wire(6, strings()),
});
const WeightedPodAffinityTerm = object('WeightedPodAffinityTerm', {
  weight: wire(1, int32({ required: true })),
  podAffinityTerm: wire(2, use(PodAffinityTerm, { required: true })),
});
const podAffinityFields = {
  requiredDuringSchedulingIgnoredDuringExecution: wire(1, list(PodAffinityTerm)),
  preferredDuringSchedulingIgnoredDuringExecution: wire(2, list(WeightedPodAffinityTerm)),
};
const Affinity = object('Affinity', {
  nodeAffinity: wire(
    1,
    object('NodeAffinity', {
      requiredDuringSchedulingIgnoredDuringExecution: wire(1, NodeSelector),
      preferredDuringSchedulingIgnoredDuringExecution: wire(
        2,
        list(
          object('PreferredSchedulingTerm', {
            weight: wire(1, int32({ required: true })),
            preference: wire(2, use(NodeSelectorTerm, { required: true })),
          }),
        ),
      ),
    }),
  ),
  podAffinity: wire(2, object('PodAffinity', podAffinityFields)),
  podAntiAffinity: wire(3, object('PodAntiAffinity', podAffinityFields)),
});

const TopologySpreadConstraint = object('TopologySpreadConstraint', {
  maxSkew: wire(1, int32({ required: true })),
  topologyKey: wire(2, string({ required: true })),
  whenUnsatisfiable: wire(3, string({ required: true })),
  labelSelector: wire(4, LabelSelector),
  minDomains: wire(5, int32({ keep: true })),
  nodeAffinityPolicy: wire(6, string({ keep: true })),
  nodeTaintsPolicy: wire(7, string({ keep: true })),
  matchLabelKeys: wire(8, strings()),
});

const PodSecurityContext = object('PodSecurityContext', {
  seLinuxOptions: wire(1, SELinuxOptions),
  windowsOptions: wire(8, WindowsSecurityContextOptions),
  runAsUser: wire(2, int64({ keep: true })),
  runAsGroup: wire(6, int64({ keep: true })),
  runAsNonRoot: wire(3, boolean({ keep: true })),
  supplementalGroups: wire(4, list(int64({ keep: true }))),
  supplementalGroupsPolicy: wire(12, string({ keep: true })),
  fsGroup: wire(5, int64({ keep: true })),
  sysctls: wire(
    7,
    list(object('Sysctl', { name: wire(1, string({ required: true })), value: wire(2, string({ required: true })) })),
  ),
  fsGroupChangePolicy: wire(9, string({ keep: true })),
  seccompProfile: wire(10, Profile('SeccompProfile')),
  appArmorProfile: wire(11, Profile('AppArmorProfile')),
  seLinuxChangePolicy: wire(13, string({ keep: true })),
});

const PodDNSConfig = object('PodDNSConfig', {
  nameservers: wire(1, strings()),
  searches: wire(2, strings()),
  options: wire(
    3,
    list(object('PodDNSConfigOption', { name: wire(1, string()), value: wire(2, string({ keep: true })) })),
  ),
});

export const PodSpec = object(
  'PodSpec',
  {
    volumes: wire(
      1,
      list(Volume, {
        mergeKey: 'name',
        retainKeys: true,
        description: 'Volumes that containers of the pod can mount.',
      }),
    ),
    initContainers: wire(
      20,
      list(Container, {
        mergeKey: 'name',
        description: 'Containers run one after another before the others.',
      }),
    ),
    containers: wire(
      2,
      list(Container, {
        mergeKey: 'name',
        required: true,
        description: 'Containers of the pod; at least one.',
      }),
    ),
    ephemeralContainers: wire(34, list(EphemeralContainer, { mergeKey: 'name' })),
    restartPolicy: wire(
      3,
      string({
        default: 'Always',
        enum: ['Always', 'Never', 'OnFailure'],
        description: 'Always, OnFailure or Never. Default Always.',
      }),
    ),
    terminationGracePeriodSeconds: wire(4, int64({ keep: true, default: 30 })),
    activeDeadlineSeconds: wire(5, int64({ keep: true })),
    dnsPolicy: wire(
      6,
      string({
        default: 'ClusterFirst',
        enum: ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'],
        description: 'DNS policy for the pod. Default ClusterFirst.',
      }),
    ),
    nodeSelector: wire(7, stringMap({ description: 'Labels that a node must have to run the pod.' })),
    serviceAccountName: wire(8, string({ description: 'The ServiceAccount to run this pod as.' })),
    serviceAccount: wire(9, string()),
    automountServiceAccountToken: wire(21, boolean({ keep: true })),
    nodeName: wire(
      10,
      string({
        description: 'The node on which the pod runs; set by the scheduler through the binding subresource.',
      }),
    ),
    hostNetwork: wire(11, boolean({ description: "Use the node's network namespace." })),
    hostPID: wire(12, boolean()),
    hostIPC: wire(13, boolean()),
    shareProcessNamespace: wire(27, boolean({ keep: true })),
    // A struct pointer that defaulting always fills in.
    securityContext: wire(14, use(PodSecurityContext, { always: true })),
    imagePullSecrets: wire(15, list(LocalObjectReference, { mergeKey: 'name' })),
    hostname: wire(16, string({ description: "The pod's hostname; its name when absent." })),
    subdomain: wire(17, string()),
    affinity: wire(18, Affinity),
    schedulerName: wire(19, string({ default: 'default-scheduler' })),
    tolerations: wire(22, list(Toleration)),
    hostAliases: wire(
      23,
      list(object('HostAlias', { ip: wire(1, string({ required: true })), hostnames: wire(2, strings()) }), {
        mergeKey: 'ip',
      }),
    ),
    priorityClassName: wire(24, string()),
    priority: wire(25, int32({ keep: true })),
    dnsConfig: wire(26, PodDNSConfig),
    readinessGates: wire(28, list(object('PodReadinessGate', { conditionType: wire(1, string({ required: true })) }))),
    runtimeClassName: wire(29, string({ keep: true })),
    enableServiceLinks: wire(30, boolean({ keep: true, default: true })),
    preemptionPolicy: wire(31, string({ keep: true })),
    overhead: wire(32, quantities()),
    topologySpreadConstraints: wire(
      33,
      list(TopologySpreadConstraint, {
        mergeKey: 'topologyKey',
        mapKeys: ['topologyKey', 'whenUnsatisfiable'],
      }),
    ),
    setHostnameAsFQDN: wire(35, boolean({ keep: true })),
    os: wire(36, object('PodOS', { name: wire(1, string({ required: true })) })),
    hostUsers: wire(37, boolean({ keep: true })),
    schedulingGates: wire(
      38,
      list(object('PodSchedulingGate', { name: wire(1, string({ required: true })) }), { mergeKey: 'name' }),
    ),
    resourceClaims: wire(
      39,
      list(
        object('PodResourceClaim', {
          name: wire(1, string({ required: true })),
          resourceClaimName: wire(3, string({ keep: true })),
          resourceClaimTemplateName: wire(4, string({ keep: true })),
        }),
        { mergeKey: 'name', retainKeys: true },
      ),
    ),
    resources: wire(40, ResourceRequirements),
    hostnameOverride: wire(41, string({ keep: true })),
  },
  'PodSpec is a description of a pod.',
);

export const PodTemplateSpec = object('PodTemplateSpec', {
  metadata: wire(1, use(ObjectMeta, { always: true })),
  spec: wire(2, use(PodSpec, { description: 'The pods to be made.' })),
});

/** Amounts by name, for schemas that hold one. */
export const amounts = () => map(quantity());
