/** The schema of PodStatus. */
import {
  any,
  boolean,
  object as define,
  int32,
  int64,
  list,
  type ObjectSchema,
  quantities,
  type Schema,
  string,
  stringMap,
  time,
} from '../schema/schema.ts';
import { ResourceRequirements } from './pod-container-schema.ts';

const object = (name: string, fields: Readonly<Record<string, Schema>>, description?: string): ObjectSchema =>
  define(`io.k8s.api.core.v1.${name}`, fields, description ? { description } : {});

const ContainerState = object('ContainerState', {
  waiting: object('ContainerStateWaiting', { reason: string(), message: string() }),
  running: object('ContainerStateRunning', { startedAt: time() }),
  terminated: object('ContainerStateTerminated', {
    exitCode: int32({ required: true, keep: true }),
    signal: int32(),
    reason: string(),
    message: string(),
    startedAt: time(),
    finishedAt: time(),
    containerID: string(),
  }),
});

const ContainerStatus = object('ContainerStatus', {
  name: string({ required: true }),
  state: { ...ContainerState, always: true },
  lastState: { ...ContainerState, always: true },
  ready: boolean({ required: true, keep: true, default: false }),
  restartCount: int32({ required: true, keep: true, default: 0 }),
  image: string({ required: true, keep: true, default: '' }),
  imageID: string({ required: true, keep: true, default: '' }),
  containerID: string(),
  started: boolean({ keep: true }),
  allocatedResources: quantities(),
  resources: ResourceRequirements,
  volumeMounts: list(
    object('VolumeMountStatus', {
      name: string({ required: true }),
      mountPath: string({ required: true }),
      readOnly: boolean(),
      recursiveReadOnly: string({ keep: true }),
    }),
    { mergeKey: 'mountPath' },
  ),
  user: any(),
  allocatedResourcesStatus: any(),
  stopSignal: string({ keep: true }),
});

const PodCondition = object('PodCondition', {
  type: string({ required: true }),
  observedGeneration: int64(),
  status: string({ required: true }),
  lastProbeTime: time(),
  lastTransitionTime: time(),
  reason: string(),
  message: string(),
});

export const PodStatus = object(
  'PodStatus',
  {
    observedGeneration: int64(),
    phase: string({ description: 'Pending, Running, Succeeded, Failed or Unknown.' }),
    conditions: list(PodCondition, { mergeKey: 'type' }),
    message: string(),
    reason: string(),
    nominatedNodeName: string(),
    hostIP: string(),
    hostIPs: list(object('HostIP', { ip: string({ required: true }) }), { mergeKey: 'ip' }),
    podIP: string({ description: "The pod's first address." }),
    podIPs: list(object('PodIP', { ip: string({ required: true }) }), {
      mergeKey: 'ip',
      description: "The pod's addresses, one of each family.",
    }),
    startTime: time(),
    initContainerStatuses: list(ContainerStatus),
    containerStatuses: list(ContainerStatus),
    ephemeralContainerStatuses: list(ContainerStatus),
    qosClass: string(),
    resize: string(),
    resourceClaimStatuses: list(any()),
    allocatedResources: quantities(),
    resources: ResourceRequirements,
    extendedResourceClaimStatus: stringMap(),
  },
  'PodStatus represents information about the status of a pod.',
);
