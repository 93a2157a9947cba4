/** The schema of PodSpec, shared by Pod and by the kinds that hold pod templates. */
import { ObjectMeta } from '../schema/meta.ts';
import { boolean, int32, int64, list, quantities, string, stringMap, strings, use } from '../schema/schema.ts';
import { LocalObjectReference, object } from './core-schema.ts';
import { Container, EphemeralContainer, ResourceRequirements } from './pod-container-schema.ts';
import { Affinity, Toleration, TopologySpreadConstraint } from './pod-scheduling-schema.ts';
import { PodSecurityContext } from './pod-security-schema.ts';
import { Volume } from './pod-volume-schema.ts';

const PodDNSConfig = object('PodDNSConfig', {
  nameservers: strings(),
  searches: strings(),
  options: list(object('PodDNSConfigOption', { name: string(), value: string({ keep: true }) })),
});

export const PodSpec = object(
  'PodSpec',
  {
    volumes: list(Volume, {
      mergeKey: 'name',
      retainKeys: true,
      description: 'Volumes that containers of the pod can mount.',
    }),
    initContainers: list(Container, {
      mergeKey: 'name',
      description: 'Containers run one after another before the others.',
    }),
    containers: list(Container, {
      mergeKey: 'name',
      required: true,
      description: 'Containers of the pod; at least one.',
    }),
    ephemeralContainers: list(EphemeralContainer, { mergeKey: 'name' }),
    restartPolicy: string({
      default: 'Always',
      enum: ['Always', 'Never', 'OnFailure'],
      description: 'Always, OnFailure or Never. Default Always.',
    }),
    terminationGracePeriodSeconds: int64({ keep: true, default: 30 }),
    activeDeadlineSeconds: int64({ keep: true }),
    dnsPolicy: string({
      default: 'ClusterFirst',
      enum: ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'],
      description: 'DNS policy for the pod. Default ClusterFirst.',
    }),
    nodeSelector: stringMap({ description: 'Labels that a node must have to run the pod.' }),
    serviceAccountName: string({ description: 'The ServiceAccount to run this pod as.' }),
    serviceAccount: string(),
    automountServiceAccountToken: boolean({ keep: true }),
    nodeName: string({
      description: 'The node on which the pod runs; set by the scheduler through the binding subresource.',
    }),
    hostNetwork: boolean({ description: "Use the node's network namespace." }),
    hostPID: boolean(),
    hostIPC: boolean(),
    shareProcessNamespace: boolean({ keep: true }),
    // A struct pointer that defaulting always fills in.
    securityContext: use(PodSecurityContext, { always: true }),
    imagePullSecrets: list(LocalObjectReference, { mergeKey: 'name' }),
    hostname: string({ description: "The pod's hostname; its name when absent." }),
    subdomain: string(),
    affinity: Affinity,
    schedulerName: string({ default: 'default-scheduler' }),
    tolerations: list(Toleration),
    hostAliases: list(object('HostAlias', { ip: string({ required: true }), hostnames: strings() }), {
      mergeKey: 'ip',
    }),
    priorityClassName: string(),
    priority: int32({ keep: true }),
    dnsConfig: PodDNSConfig,
    readinessGates: list(object('PodReadinessGate', { conditionType: string({ required: true }) })),
    runtimeClassName: string({ keep: true }),
    enableServiceLinks: boolean({ keep: true, default: true }),
    preemptionPolicy: string({ keep: true }),
    overhead: quantities(),
    topologySpreadConstraints: list(TopologySpreadConstraint, {
      mergeKey: 'topologyKey',
      mapKeys: ['topologyKey', 'whenUnsatisfiable'],
    }),
    setHostnameAsFQDN: boolean({ keep: true }),
    os: object('PodOS', { name: string({ required: true }) }),
    hostUsers: boolean({ keep: true }),
    schedulingGates: list(object('PodSchedulingGate', { name: string({ required: true }) }), { mergeKey: 'name' }),
    resourceClaims: list(
      object('PodResourceClaim', {
        name: string({ required: true }),
        resourceClaimName: string({ keep: true }),
        resourceClaimTemplateName: string({ keep: true }),
      }),
      { mergeKey: 'name', retainKeys: true },
    ),
    resources: ResourceRequirements,
    hostnameOverride: string({ keep: true }),
  },
  'PodSpec is a description of a pod.',
);

export const PodTemplateSpec = object('PodTemplateSpec', {
  metadata: use(ObjectMeta, { always: true }),
  spec: use(PodSpec, { description: 'The pods to be made.' }),
});
