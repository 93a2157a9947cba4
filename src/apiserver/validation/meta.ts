/** Validation of ObjectMeta and of what the schema itself demands (required fields, enumerations). */
import type { LabelSelector, ObjectMeta } from '../../kube/types.ts';
import type { ObjectSchema, Schema } from '../schema/schema.ts';
import {
  duplicate,
  type FieldError,
  type FieldErrors,
  forbidden,
  invalid,
  notSupported,
  type Path,
  path,
  required,
  tooLong,
} from './field.ts';
import { dns1123Subdomain, labelValue, qualifiedName } from './names.ts';

/** All annotations of an object together. */
const MAX_ANNOTATION_BYTES = 256 * 1024;

export function validateLabels(labels: Readonly<Record<string, string>> | undefined, at: Path): FieldError[] {
  return Object.entries(labels ?? {}).flatMap(([key, value]) => [
    ...qualifiedName(key).map((message) => invalid(at, key, message)),
    ...labelValue(value).map((message) => invalid(at, value, message)),
  ]);
}

export function validateAnnotations(annotations: Readonly<Record<string, string>> | undefined, at: Path): FieldError[] {
  const entries = Object.entries(annotations ?? {});
  const errors = entries.flatMap(([key]) =>
    qualifiedName(key.toLowerCase()).map((message) => invalid(at, key, message)),
  );
  const size = entries.reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0);
  return size > MAX_ANNOTATION_BYTES ? [...errors, tooLong(at, MAX_ANNOTATION_BYTES)] : errors;
}

export function validateLabelSelector(selector: LabelSelector | undefined, at: Path): FieldError[] {
  if (!selector) return [];
  const errors: FieldError[] = [];
  (selector.matchExpressions ?? []).forEach(({ key, operator, values }, i) => {
    const here = at.child('matchExpressions').index(i);
    const count = values?.length ?? 0;
    if (operator === 'In' || operator === 'NotIn') {
      if (count === 0)
        errors.push(required(here.child('values'), "must be specified when `operator` is 'In' or 'NotIn'"));
    } else if (operator === 'Exists' || operator === 'DoesNotExist') {
      if (count > 0)
        errors.push(
          forbidden(here.child('values'), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        );
    } else errors.push(invalid(here.child('operator'), operator ?? '', 'not a valid selector operator'));
    errors.push(...qualifiedName(key ?? '').map((message) => invalid(here.child('key'), key ?? '', message)));
  });
  return [...errors, ...validateLabels(selector.matchLabels, at.child('matchLabels'))];
}

interface MetaRules {
  readonly namespaced: boolean;
  readonly validateName?: ((name: string) => readonly string[]) | undefined;
}

export function validateMeta(meta: ObjectMeta, rules: MetaRules): FieldErrors {
  const at = path('metadata');
  const errors: FieldError[] = [];
  if (!meta.name) errors.push(required(at.child('name'), 'name or generateName is required'));
  else {
    const check = rules.validateName ?? dns1123Subdomain;
    errors.push(...check(meta.name).map((message) => invalid(at.child('name'), meta.name, message)));
  }
  if (rules.namespaced && !meta.namespace) errors.push(required(at.child('namespace')));
  if (!rules.namespaced && meta.namespace) errors.push(forbidden(at.child('namespace'), 'not allowed on this type'));
  errors.push(...validateLabels(meta.labels, at.child('labels')));
  errors.push(...validateAnnotations(meta.annotations, at.child('annotations')));
  errors.push(...validateOwners(meta.ownerReferences ?? [], at.child('ownerReferences')));
  (meta.finalizers ?? []).forEach((finalizer, i) => {
    errors.push(...qualifiedName(finalizer).map((m) => invalid(at.child('finalizers').index(i), finalizer, m)));
  });
  return errors;
}

function validateOwners(owners: NonNullable<ObjectMeta['ownerReferences']>, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  owners.forEach((owner, i) => {
    const here = at.index(i);
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const)
      if (!owner[field]) errors.push(invalid(here.child(field), '', 'must not be empty'));
  });
  const controllers = owners.filter((owner) => owner.controller);
  if (controllers.length > 1)
    errors.push(
      invalid(
        at,
        owners,
        `Only one reference can have Controller set to true. Found "true" in references for ${controllers[0]!.kind}/${controllers[0]!.name} and ${controllers[1]!.kind}/${controllers[1]!.name}`,
      ),
    );
  return errors;
}

/** What may never change in an object's metadata. */
export function validateMetaUpdate(meta: ObjectMeta, old: ObjectMeta): FieldErrors {
  const at = path('metadata');
  const errors: FieldError[] = [];
  for (const field of ['name', 'namespace', 'uid', 'creationTimestamp'] as const) {
    if ((meta[field] ?? '') !== (old[field] ?? ''))
      errors.push(invalid(at.child(field), meta[field] ?? '', 'field is immutable'));
  }
  if (old.deletionTimestamp) {
    const added = (meta.finalizers ?? []).filter((finalizer) => !(old.finalizers ?? []).includes(finalizer));
    if (added.length > 0)
      errors.push(
        forbidden(
          at.child('finalizers'),
          `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
        ),
      );
  }
  return errors;
}

/** Required fields that are missing and values outside of an enumeration, for the whole object but its metadata. */
export function validateSchema(schema: ObjectSchema, object: Readonly<Record<string, unknown>>): FieldErrors {
  const errors: FieldError[] = [];
  for (const [name, field] of Object.entries(schema.fields)) {
    if (name === 'metadata' || name === 'apiVersion' || name === 'kind') continue;
    check(field, object[name], path(name), errors);
  }
  return errors;
}

function check(schema: Schema, value: unknown, at: Path, errors: FieldError[]): void {
  if (value === undefined || (value === '' && schema.required && !schema.keep)) {
    if (schema.required && (schema.type === 'string' || schema.type === 'list')) errors.push(required(at));
    return;
  }
  switch (schema.type) {
    case 'string':
      if (schema.enum && !schema.enum.includes(value as string)) errors.push(notSupported(at, value, schema.enum));
      return;
    case 'list':
      checkList(schema, value as readonly unknown[], at, errors);
      return;
    case 'map':
      if (schema.values.type === 'object' || schema.values.type === 'list')
        for (const [key, item] of Object.entries(value as object)) check(schema.values, item, at.key(key), errors);
      return;
    case 'object':
      for (const [name, field] of Object.entries(schema.fields))
        check(field, (value as Record<string, unknown>)[name], at.child(name), errors);
      return;
  }
}

function checkList(
  schema: Extract<Schema, { type: 'list' }>,
  items: readonly unknown[],
  at: Path,
  errors: FieldError[],
): void {
  items.forEach((item, i) => {
    check(schema.items, item, at.index(i), errors);
  });
  if (schema.mergeKey === '' && new Set(items).size < items.length) {
    items.forEach((item, i) => {
      if (items.indexOf(item) < i) errors.push(duplicate(at.index(i), item));
    });
  }
}
