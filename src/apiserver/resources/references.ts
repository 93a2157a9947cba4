/** The small types of core/v1 by which objects name others, or parts of themselves. */
import { boolean, embedded, quantity, string, wire } from '../schema/schema.ts';
import { coreObject as object } from './core-object.ts';

export const LocalObjectReference = object('LocalObjectReference', { name: wire(1, string()) });

export const ObjectReference = object('ObjectReference', {
  kind: wire(1, string()),
  namespace: wire(2, string()),
  name: wire(3, string()),
  uid: wire(4, string()),
  apiVersion: wire(5, string()),
  resourceVersion: wire(6, string()),
  fieldPath: wire(7, string()),
});

/** A key of a ConfigMap or Secret: two types that differ in name only. */
export const KeySelector = (name: 'ConfigMapKeySelector' | 'SecretKeySelector') =>
  object(name, {
    ...embedded(1, LocalObjectReference.fields),
    key: wire(2, string({ required: true })),
    optional: wire(3, boolean({ keep: true })),
  });

export const ObjectFieldSelector = object('ObjectFieldSelector', {
  apiVersion: wire(1, string({ default: 'v1' })),
  fieldPath: wire(2, string({ required: true })),
});

export const ResourceFieldSelector = object('ResourceFieldSelector', {
  containerName: wire(1, string()),
  resource: wire(2, string({ required: true })),
  divisor: wire(3, quantity({ default: '0' })),
});
