/**
 * A container's environment: envFrom, then env in its order, then the Services' variables that neither has set. Pure; the
 * ConfigMaps and Secrets it needs are fetched beforehand (`environmentReferences`).
 */
import { isIp } from '../../../base/ip.ts';
import type { ConfigMap, corev1, Secret } from '../../../kube/types.ts';
import { ContainerConfigError } from '../config-error.ts';
import { expand } from './expansion.ts';
import { fieldValue, type PodFacts, resourceFieldValue } from './field-references.ts';

export interface ObjectReference {
  readonly kind: 'ConfigMap' | 'Secret';
  readonly name: string;
}

/** ConfigMaps and Secrets of the pod's namespace; undefined when there is none of the name. */
export interface ConfigLookup {
  configMap(name: string): ConfigMap | undefined;
  secret(name: string): Secret | undefined;
}

export interface EnvironmentInput extends PodFacts, ConfigLookup {
  readonly container: corev1.Container;
  /** From `serviceVariables`. */
  readonly services: ReadonlyMap<string, string>;
}

export interface Environment {
  /** In the order in which they were made; a name is there once. */
  readonly variables: ReadonlyMap<string, string>;
  /** Keys of envFrom sources that cannot be names of variables, by source: for an event. */
  readonly skipped: readonly { readonly source: string; readonly keys: readonly string[] }[];
}

/** Which objects the container's environment needs. */
export function environmentReferences(container: corev1.Container): readonly ObjectReference[] {
  const references: ObjectReference[] = [];
  const add = (kind: ObjectReference['kind'], name: string | undefined) => {
    if (name && !references.some((other) => other.kind === kind && other.name === name))
      references.push({ kind, name });
  };
  for (const { configMapRef, secretRef } of container.envFrom ?? []) {
    add('ConfigMap', configMapRef?.name);
    add('Secret', secretRef?.name);
  }
  for (const { valueFrom } of container.env ?? []) {
    add('ConfigMap', valueFrom?.configMapKeyRef?.name);
    add('Secret', valueFrom?.secretKeyRef?.name);
  }
  return references;
}

/** Throws ContainerConfigError when an object or key is missing that is not optional. */
export function buildEnvironment(input: EnvironmentInput): Environment {
  const variables = new Map<string, string>();
  const skipped: Environment['skipped'][number][] = [];
  for (const source of input.container.envFrom ?? []) {
    const { label, data } = sourceData(source, input);
    const bad: string[] = [];
    for (const [key, value] of Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))) {
      const name = `${source.prefix ?? ''}${key}`;
      if (isVariableName(name)) variables.set(name, value);
      else bad.push(key);
    }
    if (bad.length) skipped.push({ source: label, keys: bad });
  }
  const lookUp = (name: string) => variables.get(name) ?? input.services.get(name);
  for (const { name, value, valueFrom } of input.container.env ?? []) {
    const result = valueFrom ? referencedValue(valueFrom, input) : expand(value ?? '', lookUp);
    if (result !== undefined) variables.set(name, result);
  }
  for (const [name, value] of input.services) if (!variables.has(name)) variables.set(name, value);
  return { variables, skipped };
}

/** Printable ASCII without "=", as Kubernetes allows since 1.34 (KEP-4369). */
export function isVariableName(name: string): boolean {
  return /^[\x20-\x3c\x3e-\x7e]+$/.test(name);
}

function sourceData(source: corev1.EnvFromSource, lookup: ConfigLookup) {
  if (source.configMapRef) {
    const { name = '', optional } = source.configMapRef;
    const map = lookup.configMap(name);
    if (!map && !optional) throw new ContainerConfigError(`configmap ${JSON.stringify(name)} not found`);
    return { label: `configmap ${name}`, data: map?.data ?? {} };
  }
  const { name = '', optional } = source.secretRef ?? {};
  const secret = lookup.secret(name);
  if (!secret && !optional) throw new ContainerConfigError(`secret ${JSON.stringify(name)} not found`);
  const entries = Object.entries(secret?.data ?? {});
  return { label: `secret ${name}`, data: Object.fromEntries(entries.map(([key, value]) => [key, decode(value)])) };
}

const decode = (base64: string): string => Buffer.from(base64, 'base64').toString();

/** Undefined when an optional source is missing: the variable is then not set at all. */
function referencedValue(source: corev1.EnvVarSource, input: EnvironmentInput): string | undefined {
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef } = source;
  if (fieldRef) return fieldValue(fieldRef.fieldPath, input);
  if (resourceFieldRef) return resourceFieldValue(resourceFieldRef, input.container.name, input);
  const namespace = input.pod.metadata.namespace;
  if (configMapKeyRef) {
    const { name = '', key, optional } = configMapKeyRef;
    const map = input.configMap(name);
    if (!map && !optional) throw new ContainerConfigError(`configmap ${JSON.stringify(name)} not found`);
    const value = own(map?.data, key);
    if (value === undefined && !optional)
      throw new ContainerConfigError(`couldn't find key ${key} in ConfigMap ${namespace}/${name}`);
    return value;
  }
  if (secretKeyRef) {
    const { name = '', key, optional } = secretKeyRef;
    const secret = input.secret(name);
    if (!secret && !optional) throw new ContainerConfigError(`secret ${JSON.stringify(name)} not found`);
    const value = own(secret?.data, key);
    if (value === undefined && !optional)
      throw new ContainerConfigError(`couldn't find key ${key} in Secret ${namespace}/${name}`);
    return value === undefined ? undefined : decode(value);
  }
  return '';
}

function own(map: { readonly [name: string]: string } | undefined, key: string): string | undefined {
  return map && Object.hasOwn(map, key) ? map[key] : undefined;
}

/** The pod's own addresses as variables need them: only addresses, never an empty text. */
export function onlyAddresses(addresses: readonly (string | undefined)[]): readonly string[] {
  return addresses.filter((address): address is string => address !== undefined && isIp(address));
}
