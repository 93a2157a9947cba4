/** The schema of metav1: ObjectMeta and the small types that many kinds share. */
import {
  any,
  boolean,
  int64,
  list,
  type ObjectSchema,
  object,
  type Schema,
  string,
  stringMap,
  strings,
  time,
  use,
  wire,
} from './schema.ts';

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';

export const OwnerReference = object(
  `${META}.OwnerReference`,
  {
    apiVersion: wire(5, string({ required: true, description: 'API version of the referent.' })),
    kind: wire(1, string({ required: true, description: 'Kind of the referent.' })),
    name: wire(3, string({ required: true, description: 'Name of the referent.' })),
    uid: wire(4, string({ required: true, description: 'UID of the referent.' })),
    controller: wire(
      6,
      boolean({ keep: true, description: 'If true, this reference points to the managing controller.' }),
    ),
    blockOwnerDeletion: wire(
      7,
      boolean({
        keep: true,
        description:
          'If true, and the owner has the "foregroundDeletion" finalizer, the owner stays until this reference is gone.',
      }),
    ),
  },
  { description: 'OwnerReference identifies an owning object in the same namespace, or a cluster-wide one.' },
);

export const ManagedFieldsEntry = object(`${META}.ManagedFieldsEntry`, {
  manager: wire(1, string()),
  operation: wire(2, string()),
  apiVersion: wire(3, string()),
  time: wire(4, time()),
  fieldsType: wire(6, string()),
  fieldsV1: wire(7, any()),
  subresource: wire(8, string()),
});

export const ObjectMeta = object(
  `${META}.ObjectMeta`,
  {
    name: wire(1, string({ description: 'Name, unique within a namespace. Cannot be updated.' })),
    generateName: wire(
      2,
      string({ description: 'A prefix from which the server makes a unique name when none is given.' }),
    ),
    namespace: wire(3, string({ description: 'The space within which each name must be unique. Cannot be updated.' })),
    selfLink: wire(4, string()),
    uid: wire(5, string({ description: 'Unique in time and space; set by the server.' })),
    resourceVersion: wire(
      6,
      string({
        description: 'An opaque version for optimistic concurrency and watches; set by the server.',
      }),
    ),
    generation: wire(7, int64({ description: 'Counts the changes of the desired state; set by the server.' })),
    creationTimestamp: wire(8, time()),
    deletionTimestamp: wire(
      9,
      time({
        description: 'When the object will be (or was asked to be) deleted; set by the server.',
      }),
    ),
    deletionGracePeriodSeconds: wire(
      10,
      int64({ keep: true, description: 'Seconds allowed to terminate gracefully.' }),
    ),
    labels: wire(11, stringMap({ description: 'Keys and values by which objects are organised and selected.' })),
    annotations: wire(12, stringMap({ description: 'Unstructured keys and values for tools.' })),
    ownerReferences: wire(
      13,
      list(OwnerReference, {
        mergeKey: 'uid',
        description: 'Objects this one depends on; when all are gone it is garbage collected.',
      }),
    ),
    finalizers: wire(14, strings({ mergeKey: '', description: 'Must be empty before the object vanishes.' })),
    managedFields: wire(17, list(ManagedFieldsEntry)),
  },
  { description: 'Metadata that all persisted objects have.' },
);

export const LabelSelectorRequirement = object(`${META}.LabelSelectorRequirement`, {
  key: wire(1, string({ required: true, description: 'The label key.' })),
  operator: wire(2, string({ required: true, description: 'In, NotIn, Exists or DoesNotExist.' })),
  values: wire(3, strings({ description: 'Values for In and NotIn.' })),
});

export const LabelSelector = object(
  `${META}.LabelSelector`,
  {
    matchLabels: wire(1, stringMap({ description: 'Labels that must be equal; ANDed.' })),
    matchExpressions: wire(2, list(LabelSelectorRequirement, { description: 'Requirements; ANDed.' })),
  },
  { description: 'A label query over a set of resources; an empty one matches everything.' },
);

export const Condition = object(`${META}.Condition`, {
  type: wire(1, string({ required: true })),
  status: wire(2, string({ required: true })),
  observedGeneration: wire(3, int64()),
  lastTransitionTime: wire(4, time({ required: true })),
  reason: wire(5, string({ required: true })),
  message: wire(6, string({ required: true })),
});

/** A top-level type: apiVersion, kind, metadata, and its own fields. */
export function topLevel(name: string, description: string, fields: Readonly<Record<string, Schema>>): ObjectSchema {
  return object(
    name,
    {
      apiVersion: string({ description: 'The versioned schema of this representation of an object.' }),
      kind: string({ description: 'The REST resource this object represents.' }),
      metadata: wire(1, use(ObjectMeta, { always: true, description: "Standard object's metadata." })),
      ...fields,
    },
    { description },
  );
}
