/** ReplicaSet, apps/v1. */
import { isDeepStrictEqual } from 'node:util';
import type { ReplicaSet } from '../../kube/types.ts';
import { LabelSelector, topLevel } from '../schema/meta.ts';
import { object as define, int32, int64, list, type Schema, string, time, use, wire } from '../schema/schema.ts';
import { invalid } from '../validation/field.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';
import { PodTemplateSpec } from './pod-spec.ts';
import {
  containerCells,
  defaultTemplate,
  scaleSelector,
  selectorText,
  type Template,
  validateWorkload,
} from './workloads.ts';

const object = (name: string, fields: Readonly<Record<string, Schema>>, options = {}) =>
  define(`io.k8s.api.apps.v1.${name}`, fields, options);

export const replicaSet = defineKind<Draftable<ReplicaSet>>({
  group: 'apps',
  version: 'v1',
  kind: 'ReplicaSet',
  plural: 'replicasets',
  namespaced: true,
  shortNames: ['rs'],
  categories: ['all'],
  schema: topLevel(
    'io.k8s.api.apps.v1.ReplicaSet',
    'ReplicaSet ensures that a specified number of pod replicas are running at any given time.',
    {
      spec: wire(
        2,
        object(
          'ReplicaSetSpec',
          {
            replicas: wire(1, int32({ keep: true, default: 1, description: 'Number of desired pods. Default 1.' })),
            minReadySeconds: wire(4, int32()),
            selector: wire(2, use(LabelSelector, { required: true })),
            template: wire(3, use(PodTemplateSpec, { always: true })),
          },
          { always: true },
        ),
      ),
      status: wire(
        3,
        object(
          'ReplicaSetStatus',
          {
            replicas: wire(1, int32({ required: true, keep: true, default: 0 })),
            fullyLabeledReplicas: wire(2, int32()),
            readyReplicas: wire(4, int32()),
            availableReplicas: wire(5, int32()),
            terminatingReplicas: wire(7, int32({ keep: true })),
            observedGeneration: wire(3, int64()),
            conditions: wire(
              6,
              list(
                object('ReplicaSetCondition', {
                  type: wire(1, string({ required: true })),
                  status: wire(2, string({ required: true })),
                  lastTransitionTime: wire(3, time()),
                  reason: wire(4, string()),
                  message: wire(5, string()),
                }),
                { mergeKey: 'type' },
              ),
            ),
          },
          { always: true },
        ),
      ),
    },
  ),
  columns: [
    { name: 'Name', format: 'name' },
    { name: 'Desired', type: 'integer' },
    { name: 'Current', type: 'integer' },
    { name: 'Ready', type: 'integer' },
    { name: 'Age' },
    { name: 'Containers', priority: 1 },
    { name: 'Images', priority: 1 },
    { name: 'Selector', priority: 1 },
  ],
  row: ({ metadata, spec, status }, now) => [
    metadata.name,
    spec.replicas ?? 1,
    status?.replicas ?? 0,
    status?.readyReplicas ?? 0,
    age(metadata.creationTimestamp, now),
    ...containerCells(spec.template as Template | undefined),
    selectorText(spec.selector),
  ],
  selectableFields: ['status.replicas'],
  status: {},
  scale: {
    replicas: ({ spec }) => spec.replicas ?? 1,
    statusReplicas: ({ status }) => status?.replicas ?? 0,
    selector: ({ spec }) => scaleSelector(spec.selector),
    setReplicas({ spec }, replicas) {
      spec.replicas = replicas;
    },
  },
  countsGenerations: true,
  applyDefaults: ({ spec }) => defaultTemplate(spec.template as Template | undefined),
  validate: ({ spec }, at) => validateWorkload(spec as Parameters<typeof validateWorkload>[0], at.child('spec')),
  validateUpdate: (object, old, at) =>
    isDeepStrictEqual(object.spec.selector, old.spec.selector)
      ? []
      : [invalid(at.child('spec', 'selector'), object.spec.selector, 'field is immutable')],
});
