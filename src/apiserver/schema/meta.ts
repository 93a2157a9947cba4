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
} from './schema.ts';

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';

export const OwnerReference = object(
  `${META}.OwnerReference`,
  {
    apiVersion: string({ required: true, description: 'API version of the referent.' }),
    kind: string({ required: true, description: 'Kind of the referent.' }),
    name: string({ required: true, description: 'Name of the referent.' }),
    uid: string({ required: true, description: 'UID of the referent.' }),
    controller: boolean({ keep: true, description: 'If true, this reference points to the managing controller.' }),
    blockOwnerDeletion: boolean({
      keep: true,
      description:
        'If true, and the owner has the "foregroundDeletion" finalizer, the owner stays until this reference is gone.',
    }),
  },
  { description: 'OwnerReference identifies an owning object in the same namespace, or a cluster-wide one.' },
);

export const ManagedFieldsEntry = object(`${META}.ManagedFieldsEntry`, {
  manager: string(),
  operation: string(),
  apiVersion: string(),
  time: time(),
  fieldsType: string(),
  fieldsV1: any(),
  subresource: string(),
});

export const ObjectMeta = object(
  `${META}.ObjectMeta`,
  {
    name: string({ description: 'Name, unique within a namespace. Cannot be updated.' }),
    generateName: string({ description: 'A prefix from which the server makes a unique name when none is given.' }),
    namespace: string({ description: 'The space within which each name must be unique. Cannot be updated.' }),
    selfLink: string(),
    uid: string({ description: 'Unique in time and space; set by the server.' }),
    resourceVersion: string({
      description: 'An opaque version for optimistic concurrency and watches; set by the server.',
    }),
    generation: int64({ description: 'Counts the changes of the desired state; set by the server.' }),
    creationTimestamp: time(),
    deletionTimestamp: time({
      description: 'When the object will be (or was asked to be) deleted; set by the server.',
    }),
    deletionGracePeriodSeconds: int64({ keep: true, description: 'Seconds allowed to terminate gracefully.' }),
    labels: stringMap({ description: 'Keys and values by which objects are organised and selected.' }),
    annotations: stringMap({ description: 'Unstructured keys and values for tools.' }),
    ownerReferences: list(OwnerReference, {
      mergeKey: 'uid',
      description: 'Objects this one depends on; when all are gone it is garbage collected.',
    }),
    finalizers: strings({ mergeKey: '', description: 'Must be empty before the object vanishes.' }),
    managedFields: list(ManagedFieldsEntry),
  },
  { description: 'Metadata that all persisted objects have.' },
);

export const LabelSelectorRequirement = object(`${META}.LabelSelectorRequirement`, {
  key: string({ required: true, description: 'The label key.' }),
  operator: string({ required: true, description: 'In, NotIn, Exists or DoesNotExist.' }),
  values: strings({ description: 'Values for In and NotIn.' }),
});

export const LabelSelector = object(
  `${META}.LabelSelector`,
  {
    matchLabels: stringMap({ description: 'Labels that must be equal; ANDed.' }),
    matchExpressions: list(LabelSelectorRequirement, { description: 'Requirements; ANDed.' }),
  },
  { description: 'A label query over a set of resources; an empty one matches everything.' },
);

export const Condition = object(`${META}.Condition`, {
  type: string({ required: true }),
  status: string({ required: true }),
  observedGeneration: int64(),
  lastTransitionTime: time({ required: true }),
  reason: string({ required: true }),
  message: string({ required: true }),
});

/** A top-level type: apiVersion, kind, metadata, and its own fields. */
export function topLevel(name: string, description: string, fields: Readonly<Record<string, Schema>>): ObjectSchema {
  return object(
    name,
    {
      apiVersion: string({ description: 'The versioned schema of this representation of an object.' }),
      kind: string({ description: 'The REST resource this object represents.' }),
      metadata: use(ObjectMeta, { always: true, description: "Standard object's metadata." }),
      ...fields,
    },
    { description },
  );
}
