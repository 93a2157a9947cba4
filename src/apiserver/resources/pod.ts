/** Pod, core/v1. */
import { isDeepStrictEqual } from 'node:util';
import type { Pod } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { use, wire } from '../schema/schema.ts';
import { type FieldError, type FieldErrors, forbidden, invalid, type Path } from '../validation/field.ts';
import { type Draftable, defineKind } from './kind.ts';
import { admitPod } from './pod-admission.ts';
import { defaultPodSpec, qosClassOf } from './pod-defaults.ts';
import { podColumns, podRow } from './pod-printer.ts';
import { PodSpec } from './pod-spec.ts';
import { PodStatus } from './pod-status.ts';
import { validatePodSpec } from './pod-validation.ts';

type PodDraft = Draftable<Pod>;

export const pod = defineKind<PodDraft>({
  group: '',
  version: 'v1',
  kind: 'Pod',
  plural: 'pods',
  namespaced: true,
  shortNames: ['po'],
  categories: ['all'],
  schema: topLevel(
    'io.k8s.api.core.v1.Pod',
    'Pod is a collection of containers that can run on a host. This resource is created by clients and scheduled onto hosts.',
    {
      spec: wire(2, use(PodSpec, { always: true, description: 'Specification of the desired behavior of the pod.' })),
      status: wire(3, use(PodStatus, { always: true, description: 'Most recently observed status of the pod.' })),
    },
  ),
  columns: podColumns,
  row: (object, now) => podRow(object as unknown as Pod, now),
  selectableFields: [
    'spec.nodeName',
    'spec.restartPolicy',
    'spec.schedulerName',
    'spec.serviceAccountName',
    'spec.hostNetwork',
    'status.phase',
    'status.podIP',
    'status.nominatedNodeName',
  ],
  watchIndex: 'spec.nodeName',
  status: {},
  countsGenerations: true,
  returnsDeleted: true,
  extraSubresources: [
    { name: 'binding', kind: 'Binding', verbs: ['create'] },
    { name: 'eviction', kind: 'Eviction', group: 'policy', version: 'v1', verbs: ['create'] },
    { name: 'log', kind: 'Pod', verbs: ['get'] },
    { name: 'exec', kind: 'PodExecOptions', verbs: ['create', 'get'] },
    { name: 'attach', kind: 'PodAttachOptions', verbs: ['create', 'get'] },
    { name: 'portforward', kind: 'PodPortForwardOptions', verbs: ['create', 'get'] },
  ],
  applyDefaults: (object) => defaultPodSpec(object.spec),
  admit: admitPod,
  prepareForCreate(object) {
    object.status = { phase: 'Pending', qosClass: qosClassOf(object.spec) };
    if ((object.spec.schedulingGates ?? []).length > 0) {
      object.status.conditions = [
        {
          type: 'PodScheduled',
          status: 'False',
          reason: 'SchedulingGated',
          message: 'Scheduling is blocked due to non-empty scheduling gates',
        },
      ];
    }
  },
  validate: (object, at) => validatePodSpec((object as unknown as Pod).spec, at.child('spec')),
  validateUpdate: (object, old, at) => validatePodUpdate(object, old, at.child('spec')),
  gracePeriodSeconds(object, asked) {
    // A pod that no node has taken has nobody to end it gracefully; one that has ended needs no grace.
    if (!object.spec.nodeName || object.status?.phase === 'Succeeded' || object.status?.phase === 'Failed') return 0;
    const period = asked ?? object.spec.terminationGracePeriodSeconds ?? 30;
    return period < 0 ? 1 : period;
  },
});

/** Only images, deadlines, tolerations and scheduling gates of a pod may change. */
function validatePodUpdate(object: PodDraft, old: PodDraft, at: Path): FieldErrors {
  const errors: FieldError[] = [];
  for (const field of ['containers', 'initContainers'] as const) {
    if ((object.spec[field] ?? []).length !== (old.spec[field] ?? []).length) {
      return [forbidden(at.child(field), 'pod updates may not add or remove containers')];
    }
  }
  const { activeDeadlineSeconds: now } = object.spec;
  const { activeDeadlineSeconds: before } = old.spec;
  if (before !== undefined && (now === undefined || now > before)) {
    errors.push(
      invalid(at.child('activeDeadlineSeconds'), now ?? null, 'must be less than or equal to previous value'),
    );
  }
  const oldTolerations = old.spec.tolerations ?? [];
  const kept = oldTolerations.every((toleration) =>
    (object.spec.tolerations ?? []).some((other) =>
      isDeepStrictEqual({ ...other, tolerationSeconds: 0 }, { ...toleration, tolerationSeconds: 0 }),
    ),
  );
  if (!kept)
    errors.push(
      forbidden(at.child('tolerations'), 'existing toleration can not be modified except its tolerationSeconds'),
    );
  if (errors.length > 0) return errors;
  if (isDeepStrictEqual(fixedPart(object), fixedPart(old))) return [];
  return [
    forbidden(
      at,
      'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
    ),
  ];
}

/** The spec without what may change. */
function fixedPart({ spec }: PodDraft): unknown {
  const copy = structuredClone(spec) as PodDraft['spec'];
  for (const container of [...(copy.containers ?? []), ...(copy.initContainers ?? [])]) delete container.image;
  delete copy.activeDeadlineSeconds;
  delete copy.tolerations;
  delete copy.schedulingGates;
  return copy;
}
