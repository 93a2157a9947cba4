/** Node, core/v1. */

import { isCidr } from '../../base/ip.ts';
import type { Node } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { boolean, int32, int64, list, quantities, string, strings, time, wire } from '../schema/schema.ts';
import { type FieldError, type FieldErrors, forbidden, invalid } from '../validation/field.ts';
import { age } from './age.ts';
import { coreObject as object } from './core-object.ts';
import { type Draftable, defineKind } from './kind.ts';

/** Dynamic kubelet configuration, which Kubernetes has given up. */
const NodeConfigSource = object('NodeConfigSource', {
  configMap: wire(
    2,
    object('ConfigMapNodeConfigSource', {
      namespace: wire(1, string({ required: true })),
      name: wire(2, string({ required: true })),
      uid: wire(3, string()),
      resourceVersion: wire(4, string()),
      kubeletConfigKey: wire(5, string({ required: true })),
    }),
  ),
});

const NodeSpec = object(
  'NodeSpec',
  {
    podCIDR: wire(1, string({ description: 'The block from which pods of the node get their addresses.' })),
    podCIDRs: wire(7, strings({ mergeKey: '', description: 'The blocks of both families; the first is podCIDR.' })),
    providerID: wire(3, string()),
    unschedulable: wire(4, boolean({ description: 'No new pods are scheduled onto the node.' })),
    taints: wire(
      5,
      list(
        object('Taint', {
          key: wire(1, string({ required: true })),
          value: wire(2, string()),
          effect: wire(3, string({ required: true, enum: ['NoExecute', 'NoSchedule', 'PreferNoSchedule'] })),
          timeAdded: wire(4, time()),
        }),
      ),
    ),
    configSource: wire(6, NodeConfigSource),
    externalID: wire(2, string()),
  },
  { always: true },
);

const NodeStatus = object(
  'NodeStatus',
  {
    capacity: wire(1, quantities()),
    allocatable: wire(2, quantities()),
    phase: wire(3, string()),
    conditions: wire(
      4,
      list(
        object('NodeCondition', {
          type: wire(1, string({ required: true })),
          status: wire(2, string({ required: true })),
          lastHeartbeatTime: wire(3, time()),
          lastTransitionTime: wire(4, time()),
          reason: wire(5, string()),
          message: wire(6, string()),
        }),
        { mergeKey: 'type' },
      ),
    ),
    addresses: wire(
      5,
      list(
        object('NodeAddress', {
          type: wire(1, string({ required: true })),
          address: wire(2, string({ required: true })),
        }),
        {
          mergeKey: 'type',
        },
      ),
    ),
    daemonEndpoints: wire(
      6,
      object(
        'NodeDaemonEndpoints',
        {
          kubeletEndpoint: wire(
            1,
            object(
              'DaemonEndpoint',
              { Port: wire(1, int32({ required: true, keep: true, default: 0 })) },
              { always: true },
            ),
          ),
        },
        { always: true },
      ),
    ),
    nodeInfo: wire(
      7,
      object(
        'NodeSystemInfo',
        {
          machineID: wire(1, string({ keep: true, default: '' })),
          systemUUID: wire(2, string({ keep: true, default: '' })),
          bootID: wire(3, string({ keep: true, default: '' })),
          kernelVersion: wire(4, string({ keep: true, default: '' })),
          osImage: wire(5, string({ keep: true, default: '' })),
          containerRuntimeVersion: wire(6, string({ keep: true, default: '' })),
          kubeletVersion: wire(7, string({ keep: true, default: '' })),
          kubeProxyVersion: wire(8, string({ keep: true, default: '' })),
          operatingSystem: wire(9, string({ keep: true, default: '' })),
          architecture: wire(10, string({ keep: true, default: '' })),
          swap: wire(11, object('NodeSwapStatus', { capacity: wire(1, int64({ keep: true })) })),
        },
        { always: true },
      ),
    ),
    images: wire(8, list(object('ContainerImage', { names: wire(1, strings()), sizeBytes: wire(2, int64()) }))),
    volumesInUse: wire(9, strings()),
    volumesAttached: wire(
      10,
      list(
        object('AttachedVolume', {
          name: wire(1, string({ required: true })),
          devicePath: wire(2, string({ required: true })),
        }),
      ),
    ),
    config: wire(
      11,
      object('NodeConfigStatus', {
        assigned: wire(1, NodeConfigSource),
        active: wire(2, NodeConfigSource),
        lastKnownGood: wire(3, NodeConfigSource),
        error: wire(4, string()),
      }),
    ),
    runtimeHandlers: wire(
      12,
      list(
        object('NodeRuntimeHandler', {
          name: wire(1, string({ keep: true, default: '' })),
          features: wire(
            2,
            object('NodeRuntimeHandlerFeatures', {
              recursiveReadOnlyMounts: wire(1, boolean({ keep: true })),
              userNamespaces: wire(2, boolean({ keep: true })),
            }),
          ),
        }),
      ),
    ),
    features: wire(13, object('NodeFeatures', { supplementalGroupsPolicy: wire(1, boolean({ keep: true })) })),
    declaredFeatures: wire(14, strings()),
  },
  { always: true },
);

const ROLE_LABEL = 'node-role.kubernetes.io/';

export const node = defineKind<Draftable<Node>>({
  group: '',
  version: 'v1',
  kind: 'Node',
  plural: 'nodes',
  namespaced: false,
  shortNames: ['no'],
  schema: topLevel('io.k8s.api.core.v1.Node', 'Node is a worker node in Kubernetes.', {
    spec: wire(2, NodeSpec),
    status: wire(3, NodeStatus),
  }),
  columns: [
    { name: 'Name', format: 'name' },
    { name: 'Status', description: 'The status of the node' },
    { name: 'Roles', description: 'The roles of the node' },
    { name: 'Age' },
    { name: 'Version', description: 'Kubelet Version reported by the node.' },
    { name: 'Internal-IP', priority: 1 },
    { name: 'External-IP', priority: 1 },
    { name: 'OS-Image', priority: 1 },
    { name: 'Kernel-Version', priority: 1 },
    { name: 'Container-Runtime', priority: 1 },
  ],
  row(object, now) {
    const { status } = object;
    const address = (type: string) => status?.addresses?.find((other) => other.type === type)?.address ?? '<none>';
    return [
      object.metadata.name,
      statusOf(object),
      rolesOf(object),
      age(object.metadata.creationTimestamp, now),
      status?.nodeInfo?.kubeletVersion ?? '',
      address('InternalIP'),
      address('ExternalIP'),
      status?.nodeInfo?.osImage || '<unknown>',
      status?.nodeInfo?.kernelVersion || '<unknown>',
      status?.nodeInfo?.containerRuntimeVersion || '<unknown>',
    ];
  },
  selectableFields: ['spec.unschedulable'],
  status: {},
  keepsStatusOnCreate: true,
  applyDefaults({ spec }) {
    // The first block and the list say the same.
    if (spec.podCIDR && !spec.podCIDRs) spec.podCIDRs = [spec.podCIDR];
    if (spec.podCIDRs?.[0] && !spec.podCIDR) spec.podCIDR = spec.podCIDRs[0];
  },
  validate({ spec }, at) {
    const blocks = spec.podCIDRs ?? [];
    const errors: FieldError[] = blocks.flatMap((block, i) =>
      isCidr(block)
        ? []
        : [
            invalid(
              at.child('spec', 'podCIDRs').index(i),
              block,
              'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
            ),
          ],
    );
    if (blocks.length > 2)
      errors.push(
        invalid(at.child('spec', 'podCIDRs'), blocks, 'may specify no more than one CIDR for each IP family'),
      );
    return errors;
  },
  validateUpdate(object, old, at): FieldErrors {
    const before = old.spec.podCIDRs ?? [];
    const now = object.spec.podCIDRs ?? [];
    const changed = before.length > 0 && JSON.stringify(before) !== JSON.stringify(now);
    return changed
      ? [forbidden(at.child('spec', 'podCIDRs'), 'node updates may not change podCIDR except from "" to valid')]
      : [];
  },
});

type NodeDraft = Draftable<Node>;

function statusOf({ spec, status }: NodeDraft): string {
  const ready = status?.conditions?.find((condition) => condition.type === 'Ready');
  const text = !ready ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady';
  return spec.unschedulable ? `${text},SchedulingDisabled` : text;
}

function rolesOf({ metadata }: NodeDraft): string {
  const roles = Object.entries(metadata.labels ?? {}).flatMap(([key, value]) => {
    if (key.startsWith(ROLE_LABEL) && key.length > ROLE_LABEL.length) return [key.slice(ROLE_LABEL.length)];
    return key === 'kubernetes.io/role' && value ? [value] : [];
  });
  return [...new Set(roles)].sort().join(',') || '<none>';
}
