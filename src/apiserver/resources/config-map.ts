/** ConfigMap, core/v1. */
import { isDeepStrictEqual } from 'node:util';
import type { ConfigMap } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { boolean, bytes, map, stringMap, wire } from '../schema/schema.ts';
import { type FieldError, forbidden, invalid, tooLong } from '../validation/field.ts';
import { configMapKey } from '../validation/names.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';

/** All values of a ConfigMap or Secret together. */
export const MAX_DATA_BYTES = 1024 * 1024;

export const configMap = defineKind<Draftable<ConfigMap>>({
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  namespaced: true,
  shortNames: ['cm'],
  schema: topLevel('io.k8s.api.core.v1.ConfigMap', 'ConfigMap holds configuration data for pods to consume.', {
    immutable: wire(4, boolean({ keep: true, description: 'If true, the data cannot be changed any more.' })),
    data: wire(2, stringMap({ description: 'The configuration data, as text.' })),
    binaryData: wire(3, map(bytes(), { description: 'Binary configuration data, in base64.' })),
  }),
  columns: [{ name: 'Name', format: 'name' }, { name: 'Data' }, { name: 'Age' }],
  row: (object, now) => [
    object.metadata.name,
    String(Object.keys(object.data ?? {}).length + Object.keys(object.binaryData ?? {}).length),
    age(object.metadata.creationTimestamp, now),
  ],
  validate(object, at) {
    const errors: FieldError[] = [];
    let size = 0;
    for (const [key, value] of Object.entries(object.data ?? {})) {
      errors.push(...configMapKey(key).map((message) => invalid(at.child('data').key(key), key, message)));
      if (Object.hasOwn(object.binaryData ?? {}, key))
        errors.push(invalid(at.child('data').key(key), key, 'duplicate of key present in binaryData'));
      size += Buffer.byteLength(value);
    }
    for (const [key, value] of Object.entries(object.binaryData ?? {})) {
      errors.push(...configMapKey(key).map((message) => invalid(at.child('binaryData').key(key), key, message)));
      size += Buffer.byteLength(value, 'base64');
    }
    return size > MAX_DATA_BYTES ? [...errors, tooLong(at, MAX_DATA_BYTES)] : errors;
  },
  validateUpdate(object, old, at) {
    if (!old.immutable) return [];
    const errors: FieldError[] = [];
    if (!object.immutable) errors.push(forbidden(at.child('immutable'), 'field is immutable when `immutable` is set'));
    for (const field of ['data', 'binaryData'] as const) {
      if (!isDeepStrictEqual(object[field], old[field]))
        errors.push(forbidden(at.child(field), 'field is immutable when `immutable` is set'));
    }
    return errors;
  },
});
