/** Event, core/v1. */
import type { Event } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { int32, microTime, string, time, use, wire } from '../schema/schema.ts';
import { type FieldError, invalid, notSupported } from '../validation/field.ts';
import { age } from './age.ts';
import { coreObject as object } from './core-object.ts';
import { type Draftable, defineKind } from './kind.ts';
import { ObjectReference } from './references.ts';

type Draft = Draftable<Event>;

export const event = defineKind<Draft>({
  group: '',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  namespaced: true,
  shortNames: ['ev'],
  schema: topLevel('io.k8s.api.core.v1.Event', 'Event is a report of an event somewhere in the cluster.', {
    involvedObject: wire(
      2,
      use(ObjectReference, {
        required: true,
        always: true,
        description: 'The object that this event is about.',
      }),
    ),
    reason: wire(3, string({ description: 'A short, machine readable reason.' })),
    message: wire(4, string({ description: 'What happened, for people.' })),
    source: wire(5, {
      ...object('EventSource', { component: wire(1, string()), host: wire(2, string()) }),
      always: true,
    }),
    firstTimestamp: wire(6, time()),
    lastTimestamp: wire(7, time()),
    count: wire(8, int32()),
    type: wire(9, string({ description: 'Normal or Warning.' })),
    eventTime: wire(10, microTime()),
    series: wire(11, object('EventSeries', { count: wire(1, int32()), lastObservedTime: wire(2, microTime()) })),
    action: wire(12, string()),
    related: wire(13, ObjectReference),
    reportingComponent: wire(14, string({ keep: true, default: '' })),
    reportingInstance: wire(15, string({ keep: true, default: '' })),
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
