/** Deployment, apps/v1. */
import { isDeepStrictEqual } from 'node:util';
import type { Deployment } from '../../kube/types.ts';
import { LabelSelector, topLevel } from '../schema/meta.ts';
import {
  boolean,
  object as define,
  int32,
  int64,
  intOrString,
  list,
  type Schema,
  string,
  time,
  use,
  wire,
} from '../schema/schema.ts';
import { type FieldError, forbidden, invalid, type Path } from '../validation/field.ts';
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

type Draft = Draftable<Deployment>;

const object = (name: string, fields: Readonly<Record<string, Schema>>, options = {}) =>
  define(`io.k8s.api.apps.v1.${name}`, fields, options);

const DeploymentStrategy = object(
  'DeploymentStrategy',
  {
    type: wire(1, string({ default: 'RollingUpdate', enum: ['Recreate', 'RollingUpdate'] })),
    rollingUpdate: wire(
      2,
      object('RollingUpdateDeployment', { maxUnavailable: wire(1, intOrString()), maxSurge: wire(2, intOrString()) }),
    ),
  },
  { always: true, retainKeys: true },
);

const DeploymentSpec = object(
  'DeploymentSpec',
  {
    replicas: wire(1, int32({ keep: true, default: 1, description: 'Number of desired pods. Default 1.' })),
    selector: wire(
      2,
      use(LabelSelector, {
        required: true,
        description: 'The pods of this deployment; must match the labels of the template.',
      }),
    ),
    template: wire(3, use(PodTemplateSpec, { required: true, always: true })),
    strategy: wire(4, DeploymentStrategy),
    minReadySeconds: wire(5, int32()),
    revisionHistoryLimit: wire(6, int32({ keep: true, default: 10 })),
    paused: wire(7, boolean()),
    progressDeadlineSeconds: wire(9, int32({ keep: true, default: 600 })),
  },
  { always: true },
);

const DeploymentStatus = object(
  'DeploymentStatus',
  {
    observedGeneration: wire(1, int64()),
    replicas: wire(2, int32()),
    updatedReplicas: wire(3, int32()),
    readyReplicas: wire(7, int32()),
    availableReplicas: wire(4, int32()),
    unavailableReplicas: wire(5, int32()),
    terminatingReplicas: wire(9, int32({ keep: true })),
    conditions: wire(
      6,
      list(
        object('DeploymentCondition', {
          type: wire(1, string({ required: true })),
          status: wire(2, string({ required: true })),
          lastUpdateTime: wire(6, time()),
          lastTransitionTime: wire(7, time()),
          reason: wire(4, string()),
          message: wire(5, string()),
        }),
        { mergeKey: 'type' },
      ),
    ),
    collisionCount: wire(8, int32({ keep: true })),
  },
  { always: true },
);

export const deployment = defineKind<Draft>({
  group: 'apps',
  version: 'v1',
  kind: 'Deployment',
  plural: 'deployments',
  namespaced: true,
  shortNames: ['deploy'],
  categories: ['all'],
  schema: topLevel(
    'io.k8s.api.apps.v1.Deployment',
    'Deployment enables declarative updates for Pods and ReplicaSets.',
    {
      spec: wire(2, DeploymentSpec),
      status: wire(3, DeploymentStatus),
    },
  ),
  columns: [
    { name: 'Name', format: 'name' },
    { name: 'Ready', description: 'Number of the pod with ready state' },
    { name: 'Up-to-date' },
    { name: 'Available' },
    { name: 'Age' },
    { name: 'Containers', priority: 1 },
    { name: 'Images', priority: 1 },
    { name: 'Selector', priority: 1 },
  ],
  row: ({ metadata, spec, status }, now) => [
    metadata.name,
    `${status?.readyReplicas ?? 0}/${spec.replicas ?? 1}`,
    String(status?.updatedReplicas ?? 0),
    String(status?.availableReplicas ?? 0),
    age(metadata.creationTimestamp, now),
    ...containerCells(spec.template as Template),
    selectorText(spec.selector),
  ],
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
  applyDefaults({ spec }) {
    const strategy = spec.strategy as {
      type?: string;
      rollingUpdate?: { maxUnavailable?: number | string; maxSurge?: number | string };
    };
    if (strategy.type === 'RollingUpdate') {
      strategy.rollingUpdate ??= {};
      strategy.rollingUpdate.maxUnavailable ??= '25%';
      strategy.rollingUpdate.maxSurge ??= '25%';
    }
    defaultTemplate(spec.template as Template);
  },
  validate: ({ spec }, at) => [
    ...validateWorkload(spec as Parameters<typeof validateWorkload>[0], at.child('spec')),
    ...validateStrategy(spec, at.child('spec')),
  ],
  validateUpdate: (object, old, at) =>
    isDeepStrictEqual(object.spec.selector, old.spec.selector)
      ? []
      : [invalid(at.child('spec', 'selector'), object.spec.selector, 'field is immutable')],
});

function validateStrategy(
  { strategy, progressDeadlineSeconds, minReadySeconds }: Draft['spec'],
  at: Path,
): FieldError[] {
  const errors: FieldError[] = [];
  const here = at.child('strategy', 'rollingUpdate');
  const rolling = strategy?.rollingUpdate;
  if (strategy?.type === 'Recreate' && rolling)
    errors.push(forbidden(here, "may not be specified when strategy `type` is 'Recreate'"));
  if (strategy?.type === 'RollingUpdate' && rolling) {
    for (const field of ['maxUnavailable', 'maxSurge'] as const)
      errors.push(...amount(rolling[field], here.child(field)));
    if (isZero(rolling.maxUnavailable) && isZero(rolling.maxSurge))
      errors.push(invalid(here.child('maxUnavailable'), rolling.maxUnavailable, 'may not be 0 when `maxSurge` is 0'));
  }
  if (progressDeadlineSeconds !== undefined && progressDeadlineSeconds <= (minReadySeconds ?? 0))
    errors.push(
      invalid(at.child('progressDeadlineSeconds'), progressDeadlineSeconds, 'must be greater than minReadySeconds'),
    );
  return errors;
}

const isZero = (value: number | string | undefined) => value === 0 || value === '0%';

/** A number of pods or a percentage. */
function amount(value: number | string | undefined, at: Path): FieldError[] {
  if (typeof value === 'number') return value < 0 ? [invalid(at, value, 'must be greater than or equal to 0')] : [];
  if (value === undefined || /^\d+%$/.test(value)) return [];
  return [
    invalid(
      at,
      value,
      "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', or '93%', regex used for validation is '[0-9]+%')",
    ),
  ];
}
