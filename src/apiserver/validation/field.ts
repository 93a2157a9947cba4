/** Field paths and field errors in the words and form of k8s.io/apimachinery/pkg/util/validation/field. */
import type { ApiResource } from '../../kube/names.ts';
import { type StatusError, statusError } from '../../kube/status.ts';

/** The kinds of error: the reason in the Status' causes, and how the message begins. */
const KINDS = {
  FieldValueNotFound: 'Not found',
  FieldValueRequired: 'Required value',
  FieldValueDuplicate: 'Duplicate value',
  FieldValueInvalid: 'Invalid value',
  FieldValueNotSupported: 'Unsupported value',
  FieldValueForbidden: 'Forbidden',
  FieldValueTooLong: 'Too long',
  FieldValueTooMany: 'Too many',
  InternalError: 'Internal error',
} as const;

export interface FieldError {
  readonly reason: keyof typeof KINDS;
  readonly field: string;
  /** Without the field's path: "Required value: must name a port". */
  readonly message: string;
}

export type FieldErrors = readonly FieldError[];

/** A path such as spec.containers[0].name. */
export class Path {
  readonly #text: string;
  constructor(text: string) {
    this.#text = text;
  }
  child(...names: readonly string[]): Path {
    return new Path([...(this.#text ? [this.#text] : []), ...names].join('.'));
  }
  index(i: number): Path {
    return new Path(`${this.#text}[${i}]`);
  }
  key(name: string): Path {
    return new Path(`${this.#text}[${name}]`);
  }
  toString(): string {
    return this.#text;
  }
}

export const path = (text: string) => new Path(text);

function quoted(value: unknown): string {
  if (value === undefined || value === null) return 'null';
  return JSON.stringify(value);
}

const error = (reason: keyof typeof KINDS, at: Path, detail: string): FieldError => ({
  reason,
  field: String(at),
  message: detail ? `${KINDS[reason]}: ${detail}` : KINDS[reason],
});

export const required = (at: Path, detail = ''): FieldError => error('FieldValueRequired', at, detail);
export const forbidden = (at: Path, detail: string): FieldError => error('FieldValueForbidden', at, detail);
export const invalid = (at: Path, value: unknown, detail: string): FieldError =>
  error('FieldValueInvalid', at, detail ? `${quoted(value)}: ${detail}` : quoted(value));
export const duplicate = (at: Path, value: unknown): FieldError => error('FieldValueDuplicate', at, quoted(value));
export const notFound = (at: Path, value: unknown): FieldError => error('FieldValueNotFound', at, quoted(value));
export const notSupported = (at: Path, value: unknown, supported: readonly string[]): FieldError =>
  error('FieldValueNotSupported', at, `${quoted(value)}: supported values: ${supported.map(quoted).join(', ')}`);
export const tooLong = (at: Path, bytes: number): FieldError =>
  error('FieldValueTooLong', at, `may not be more than ${bytes} bytes`);
export const tooMany = (at: Path, actual: number, most: number): FieldError =>
  error('FieldValueTooMany', at, `${actual}: must have at most ${most} items`);
export const internalError = (at: Path, message: string): FieldError => error('InternalError', at, message);

/** "Pod" or "Deployment.apps", as messages name a kind. */
export function qualifiedKind(resource: Pick<ApiResource, 'group' | 'kind'>): string {
  return resource.group ? `${resource.kind}.${resource.group}` : resource.kind;
}

/** "pods" or "deployments.apps", as messages name a resource. */
export function qualifiedResource(resource: Pick<ApiResource, 'group' | 'plural'>): string {
  return resource.group ? `${resource.plural}.${resource.group}` : resource.plural;
}

/** The 422 answer that lists the errors. */
export function invalidError(
  kind: Pick<ApiResource, 'group' | 'kind'>,
  name: string | undefined,
  errors: FieldErrors,
): StatusError {
  const unique = [...new Map(errors.map((e) => [`${e.field}: ${e.message}`, e])).values()];
  const texts = unique.map((e) => `${e.field}: ${e.message}`);
  const what = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return statusError('Invalid', `${qualifiedKind(kind)} ${JSON.stringify(name ?? '')} is invalid: ${what}`, {
    ...(name ? { name } : {}),
    ...(kind.group ? { group: kind.group } : {}),
    ...(kind.kind ? { kind: kind.kind } : {}),
    causes: unique.map(({ reason, message, field }) => ({ reason, message, field })),
  });
}
