/** The schema of PodStatus. */
import { boolean, int32, int64, list, quantities, string, time, wire } from '../schema/schema.ts';
import { ResourceRequirements } from './container-spec.ts';
import { coreObject as object } from './core-object.ts';

const ContainerState = object('ContainerState', {
  waiting: wire(1, object('ContainerStateWaiting', { reason: wire(1, string()), message: wire(2, string()) })),
  running: wire(2, object('ContainerStateRunning', { startedAt: wire(1, time()) })),
  terminated: wire(
    3,
    object('ContainerStateTerminated', {
      exitCode: wire(1, int32({ required: true, keep: true })),
      signal: wire(2, int32()),
      reason: wire(3, string()),
      message: wire(4, string()),
      startedAt: wire(5, time()),
      finishedAt: wire(6, time()),
      containerID: wire(7, string()),
    }),
  ),
});

const ContainerStatus = object('ContainerStatus', {
  name: wire(1, string({ required: true })),
  state: wire(2, { ...ContainerState, always: true }),
  lastState: wire(3, { ...ContainerState, always: true }),
  ready: wire(4, boolean({ required: true, keep: true, default: false })),
  restartCount: wire(5, int32({ required: true, keep: true, default: 0 })),
  image: wire(6, string({ required: true, keep: true, default: '' })),
  imageID: wire(7, string({ required: true, keep: true, default: '' })),
  containerID: wire(8, string()),
  started: wire(9, boolean({ keep: true })),
  allocatedResources: wire(10, quantities()),
  resources: wire(11, ResourceRequirements),
  volumeMounts: wire(
    12,
    list(
      object('VolumeMountStatus', {
        name: wire(1, string({ required: true })),
        mountPath: wire(2, string({ required: true })),
        readOnly: wire(3, boolean()),
        recursiveReadOnly: wire(4, string({ keep: true })),
      }),
      { mergeKey: 'mountPath' },
    ),
  ),
  user: wire(
    13,
    object('ContainerUser', {
      linux: wire(
        1,
        object('LinuxContainerUser', {
          uid: wire(1, int64({ required: true })),
          gid: wire(2, int64({ required: true })),
          supplementalGroups: wire(3, list(int64({ keep: true }))),
        }),
      ),
    }),
  ),
  allocatedResourcesStatus: wire(
    14,
    list(
      object('ResourceStatus', {
        name: wire(1, string({ required: true })),
        resources: wire(
          2,
          list(
            object('ResourceHealth', { resourceID: wire(1, string({ required: true })), health: wire(2, string()) }),
            { mapKeys: ['resourceID'] },
          ),
        ),
      }),
      { mergeKey: 'name' },
    ),
  ),
  stopSignal: wire(15, string({ keep: true })),
});

const PodCondition = object('PodCondition', {
  type: wire(1, string({ required: true })),
  observedGeneration: wire(7, int64()),
  status: wire(2, string({ required: true })),
  lastProbeTime: wire(3, time()),
  lastTransitionTime: wire(4, time()),
  reason: wire(5, string()),
  message: wire(6, string()),
});

export const PodStatus = object(
  'PodStatus',
  {
    observedGeneration: wire(17, int64()),
    phase: wire(1, string({ description: 'Pending, Running, Succeeded, Failed or Unknown.' })),
    conditions: wire(2, list(PodCondition, { mergeKey: 'type' })),
    message: wire(3, string()),
    reason: wire(4, string()),
    nominatedNodeName: wire(11, string()),
    hostIP: wire(5, string()),
    hostIPs: wire(16, list(object('HostIP', { ip: wire(1, string({ required: true })) }), { mergeKey: 'ip' })),
    podIP: wire(6, string({ description: "The pod's first address." })),
    podIPs: wire(
      12,
      list(object('PodIP', { ip: wire(1, string({ required: true })) }), {
        mergeKey: 'ip',
        description: "The pod's addresses, one of each family.",
      }),
    ),
    startTime: wire(7, time()),
    initContainerStatuses: wire(10, list(ContainerStatus)),
    containerStatuses: wire(8, list(ContainerStatus)),
    ephemeralContainerStatuses: wire(13, list(ContainerStatus)),
    qosClass: wire(9, string()),
    resize: wire(14, string()),
    resourceClaimStatuses: wire(
      15,
      list(
        object('PodResourceClaimStatus', {
          name: wire(1, string({ required: true })),
          resourceClaimName: wire(2, string({ keep: true })),
        }),
        { mergeKey: 'name', retainKeys: true },
      ),
    ),
    allocatedResources: wire(19, quantities()),
    resources: wire(20, ResourceRequirements),
    extendedResourceClaimStatus: wire(
      18,
      object('PodExtendedResourceClaimStatus', {
        requestMappings: wire(
          1,
          list(
            object('ContainerExtendedResourceRequest', {
              containerName: wire(1, string({ required: true })),
              resourceName: wire(2, string({ required: true })),
              requestName: wire(3, string({ required: true })),
            }),
          ),
        ),
        resourceClaimName: wire(2, string({ required: true })),
      }),
    ),
  },
  'PodStatus represents information about the status of a pod.',
);
