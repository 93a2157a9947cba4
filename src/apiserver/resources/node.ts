/** Node, core/v1. */

import { isCidr } from '../../base/ip.ts';
import type { Node } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import {
  any,
  boolean,
  object as define,
  int32,
  int64,
  list,
  quantities,
  type Schema,
  string,
  strings,
  time,
} from '../schema/schema.ts';
import { type FieldError, type FieldErrors, forbidden, invalid } from '../validation/field.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';

const object = (name: string, fields: Readonly<Record<string, Schema>>, options = {}) =>
  define(`io.k8s.api.core.v1.${name}`, fields, options);

const NodeSpec = object(
  'NodeSpec',
  {
    podCIDR: string({ description: 'The block from which pods of the node get their addresses.' }),
    podCIDRs: strings({ mergeKey: '', description: 'The blocks of both families; the first is podCIDR.' }),
    providerID: string(),
    unschedulable: boolean({ description: 'No new pods are scheduled onto the node.' }),
    taints: list(
      object('Taint', {
        key: string({ required: true }),
        value: string(),
        effect: string({ required: true, enum: ['NoExecute', 'NoSchedule', 'PreferNoSchedule'] }),
        timeAdded: time(),
      }),
    ),
    configSource: any(),
    externalID: string(),
  },
  { always: true },
);

const NodeStatus = object(
  'NodeStatus',
  {
    capacity: quantities(),
    allocatable: quantities(),
    phase: string(),
    conditions: list(
      object('NodeCondition', {
        type: string({ required: true }),
        status: string({ required: true }),
        lastHeartbeatTime: time(),
        lastTransitionTime: time(),
        reason: string(),
        message: string(),
      }),
      { mergeKey: 'type' },
    ),
    addresses: list(object('NodeAddress', { type: string({ required: true }), address: string({ required: true }) }), {
      mergeKey: 'type',
    }),
    daemonEndpoints: object(
      'NodeDaemonEndpoints',
      {
        kubeletEndpoint: object(
          'DaemonEndpoint',
          { Port: int32({ required: true, keep: true, default: 0 }) },
          { always: true },
        ),
      },
      { always: true },
    ),
    nodeInfo: object(
      'NodeSystemInfo',
      {
        machineID: string({ keep: true, default: '' }),
        systemUUID: string({ keep: true, default: '' }),
        bootID: string({ keep: true, default: '' }),
        kernelVersion: string({ keep: true, default: '' }),
        osImage: string({ keep: true, default: '' }),
        containerRuntimeVersion: string({ keep: true, default: '' }),
        kubeletVersion: string({ keep: true, default: '' }),
        kubeProxyVersion: string({ keep: true, default: '' }),
        operatingSystem: string({ keep: true, default: '' }),
        architecture: string({ keep: true, default: '' }),
        swap: any(),
      },
      { always: true },
    ),
    images: list(object('ContainerImage', { names: strings(), sizeBytes: int64() })),
    volumesInUse: strings(),
    volumesAttached: list(any()),
    config: any(),
    runtimeHandlers: list(any()),
    features: any(),
    declaredFeatures: strings(),
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
    spec: NodeSpec,
    status: NodeStatus,
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
