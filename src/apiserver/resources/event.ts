/** Event, core/v1. */
import type { Event } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { object as define, int32, microTime, type Schema, string, time, use } from '../schema/schema.ts';
import { type FieldError, invalid, notSupported } from '../validation/field.ts';
import { age } from './age.ts';
import { ObjectReference } from './core-schema.ts';
import { type Draftable, defineKind } from './kind.ts';

type Draft = Draftable<Event>;

const object = (name: string, fields: Readonly<Record<string, Schema>>) => define(`io.k8s.api.core.v1.${name}`, fields);

export const event = defineKind<Draft>({
  group: '',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  namespaced: true,
  shortNames: ['ev'],
  schema: topLevel('io.k8s.api.core.v1.Event', 'Event is a report of an event somewhere in the cluster.', {
    involvedObject: use(ObjectReference, {
      required: true,
      always: true,
      description: 'The object that this event is about.',
    }),
    reason: string({ description: 'A short, machine readable reason.' }),
    message: string({ description: 'What happened, for people.' }),
    source: { ...object('EventSource', { component: string(), host: string() }), always: true },
    firstTimestamp: time(),
    lastTimestamp: time(),
    count: int32(),
    type: string({ description: 'Normal or Warning.' }),
    eventTime: microTime(),
    series: object('EventSeries', { count: int32(), lastObservedTime: microTime() }),
    action: string(),
    related: ObjectReference,
    reportingComponent: string({ keep: true, default: '' }),
    reportingInstance: string({ keep: true, default: '' }),
  }),
  columns: [
    { name: 'Last Seen' },
    { name: 'Type' },
    { name: 'Reason' },
    { name: 'Object' },
    { name: 'Subobject', priority: 1 },
    { name: 'Source', priority: 1 },
    { name: 'Message' },
    { name: 'First Seen', priority: 1 },
    { name: 'Count', priority: 1 },
    { name: 'Name', priority: 1 },
  ],
  row(object, now) {
    const first = object.firstTimestamp ?? object.eventTime;
    const last = object.series?.lastObservedTime ?? object.lastTimestamp ?? first;
    const { kind = '', name = '', fieldPath } = object.involvedObject;
    return [
      age(last, now),
      object.type ?? '',
      object.reason ?? '',
      name ? `${kind.toLowerCase()}/${name}` : kind.toLowerCase(),
      fieldPath ?? '',
      sourceOf(object),
      (object.message ?? '').trim(),
      age(first, now),
      object.series?.count ?? object.count ?? 1,
      object.metadata.name,
    ];
  },
  selectableFields: [
    'involvedObject.kind',
    'involvedObject.namespace',
    'involvedObject.name',
    'involvedObject.uid',
    'involvedObject.apiVersion',
    'involvedObject.resourceVersion',
    'involvedObject.fieldPath',
    'reason',
    'reportingComponent',
    'source',
    'type',
  ],
  createsOnUpdate: true,
  validate(object, at) {
    const errors: FieldError[] = [];
    const { namespace } = object.involvedObject;
    // Events of cluster-wide objects lie in the default namespace.
    if (namespace ? namespace !== object.metadata.namespace : object.metadata.namespace !== 'default')
      errors.push(invalid(at.child('involvedObject', 'namespace'), namespace ?? '', 'does not match event.namespace'));
    if (object.type && object.type !== 'Normal' && object.type !== 'Warning' && object.eventTime)
      errors.push(notSupported(at.child('type'), object.type, ['Normal', 'Warning']));
    return errors;
  },
});

function sourceOf({ source, reportingComponent, reportingInstance }: Draft): string {
  const component = source?.component || reportingComponent || '';
  const host = source?.host || reportingInstance || '';
  return host ? `${component}, ${host}` : component;
}
