/** What many kinds' schemas are made of: how a type of the core group is defined, and references to objects and their parts. */
import { boolean, object as define, type ObjectSchema, quantity, type Schema, string } from '../schema/schema.ts';

/** A type of the core group. */
export const object = (name: string, fields: Readonly<Record<string, Schema>>, description?: string): ObjectSchema =>
  define(`io.k8s.api.core.v1.${name}`, fields, description ? { description } : {});

export const LocalObjectReference = object('LocalObjectReference', { name: string() });
export const ObjectReference = object('ObjectReference', {
  kind: string(),
  namespace: string(),
  name: string(),
  uid: string(),
  apiVersion: string(),
  resourceVersion: string(),
  fieldPath: string(),
});

export const KeySelector = (name: string) =>
  object(name, { name: string(), key: string({ required: true }), optional: boolean({ keep: true }) });
export const ObjectFieldSelector = object('ObjectFieldSelector', {
  apiVersion: string({ default: 'v1' }),
  fieldPath: string({ required: true }),
});
export const ResourceFieldSelector = object('ResourceFieldSelector', {
  containerName: string(),
  resource: string({ required: true }),
  divisor: quantity({ default: '0' }),
});
