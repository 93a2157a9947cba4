/**
 * Label and field selectors: the map form, the LabelSelector form and the query-string form, all as one list of
 * requirements. Semantics as in k8s.io/apimachinery/pkg/labels: NotIn and != also match when the label is missing.
 */
import type { LabelSelector } from './types.ts';

export type Labels = Readonly<Record<string, string>>;

export type Requirement =
  | { readonly key: string; readonly operator: 'In' | 'NotIn'; readonly values: readonly string[] }
  | { readonly key: string; readonly operator: 'Exists' | 'DoesNotExist' }
  | { readonly key: string; readonly operator: 'Gt' | 'Lt'; readonly values: readonly [string] };

/** A conjunction; the empty one matches everything. */
export type Selector = readonly Requirement[];

export function matches(selector: Selector, labels: Labels | undefined): boolean {
  return selector.every((requirement) => matchesRequirement(requirement, labels ?? {}));
}

function matchesRequirement(requirement: Requirement, labels: Labels): boolean {
  const value = Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && requirement.values.includes(value);
    case 'NotIn':
      return value === undefined || !requirement.values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return value !== undefined && /^-?\d+$/.test(value) && BigInt(value) > BigInt(requirement.values[0]);
    case 'Lt':
      return value !== undefined && /^-?\d+$/.test(value) && BigInt(value) < BigInt(requirement.values[0]);
  }
}

/** From a map of labels, as in a Service's selector. */
export function fromMap(labels: Labels | undefined): Selector {
  return Object.entries(labels ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => ({ key, operator: 'In', values: [value] }));
}

/** From a LabelSelector. The empty selector matches everything; callers decide what an absent one means. */
export function fromLabelSelector(selector: LabelSelector): Selector {
  const expressions = (selector.matchExpressions ?? []).map(({ key, operator, values }): Requirement => {
    switch (operator) {
      case 'In':
      case 'NotIn':
        return { key, operator, values: values ?? [] };
      case 'Exists':
      case 'DoesNotExist':
        return { key, operator };
      default:
        throw new TypeError(`unknown selector operator ${JSON.stringify(operator)}`);
    }
  });
  return [...fromMap(selector.matchLabels), ...expressions];
}

/** Parses the query-string form: "a=b,c!=d,e in (f,g),h notin (i),j,!k,l>5". Throws TypeError on anything else. */
export function parseSelector(text: string): Selector {
  return splitTopLevel(text).map(parseRequirement);
}

function splitTopLevel(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '(') depth++;
    else if (text[i] === ')') depth--;
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  const trimmed = parts.map((part) => part.trim());
  return trimmed.length === 1 && trimmed[0] === '' ? [] : trimmed;
}

const KEY = /^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

function checkedKey(key: string, whole: string): string {
  if (!KEY.test(key)) throw new TypeError(`unable to parse requirement: ${JSON.stringify(whole)}`);
  return key;
}

function checkedValues(values: readonly string[], whole: string): readonly string[] {
  if (!values.every((value) => VALUE.test(value)))
    throw new TypeError(`unable to parse requirement: ${JSON.stringify(whole)}`);
  return values;
}

function parseRequirement(text: string): Requirement {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text);
  if (set) {
    const values = set[3]!.split(',').map((value) => value.trim());
    return {
      key: checkedKey(set[1]!, text),
      operator: set[2] === 'in' ? 'In' : 'NotIn',
      values: checkedValues(values, text),
    };
  }
  const compare = /^([^!=<>\s]+)\s*(==|!=|=|>|<)\s*(\S*)$/.exec(text);
  if (compare) {
    const [, key, operator, value] = compare as unknown as [string, string, string, string];
    checkedValues([value], text);
    if (operator === '>' || operator === '<') {
      if (!/^-?\d+$/.test(value))
        throw new TypeError(`for 'Gt', 'Lt' operators, the value must be an integer: ${text}`);
      return { key: checkedKey(key, text), operator: operator === '>' ? 'Gt' : 'Lt', values: [value] };
    }
    return { key: checkedKey(key, text), operator: operator === '!=' ? 'NotIn' : 'In', values: [value] };
  }
  if (text.startsWith('!')) return { key: checkedKey(text.slice(1).trim(), text), operator: 'DoesNotExist' };
  return { key: checkedKey(text, text), operator: 'Exists' };
}

/** The query-string form of a selector; `parseSelector` reads it back. */
export function formatSelector(selector: Selector): string {
  return selector
    .map((requirement) => {
      switch (requirement.operator) {
        case 'In':
          return requirement.values.length === 1
            ? `${requirement.key}=${requirement.values[0]}`
            : `${requirement.key} in (${requirement.values.join(',')})`;
        case 'NotIn':
          return requirement.values.length === 1
            ? `${requirement.key}!=${requirement.values[0]}`
            : `${requirement.key} notin (${requirement.values.join(',')})`;
        case 'Exists':
          return requirement.key;
        case 'DoesNotExist':
          return `!${requirement.key}`;
        case 'Gt':
          return `${requirement.key}>${requirement.values[0]}`;
        case 'Lt':
          return `${requirement.key}<${requirement.values[0]}`;
      }
    })
    .join(',');
}

export interface FieldRequirement {
  /** A path such as "spec.nodeName". */
  readonly path: string;
  readonly operator: '=' | '!=';
  readonly value: string;
}

/** Parses "spec.nodeName=a,status.phase!=Failed". Throws TypeError on anything else. */
export function parseFieldSelector(text: string): readonly FieldRequirement[] {
  if (text.trim() === '') return [];
  return text.split(',').map((part) => {
    const match = /^\s*([A-Za-z0-9_.[\]-]+?)\s*(==|!=|=)\s*(.*?)\s*$/.exec(part);
    if (!match) throw new TypeError(`invalid field selector: ${JSON.stringify(part)}`);
    return { path: match[1]!, operator: match[2] === '!=' ? '!=' : '=', value: match[3]! };
  });
}

/** Whether the object has the fields; a missing field counts as the empty string, as in Kubernetes. */
export function matchesFields(requirements: readonly FieldRequirement[], object: unknown): boolean {
  return requirements.every(({ path, operator, value }) => {
    let at: unknown = object;
    for (const part of path.split('.'))
      at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[part] : undefined;
    const actual = at === undefined || at === null ? '' : String(at);
    return operator === '=' ? actual === value : actual !== value;
  });
}
