/** The files of configMap, secret, downwardAPI and projected volumes. Pure: what they need is fetched beforehand. */
import type { corev1 } from '../../../kube/types.ts';
import { ContainerConfigError } from '../config-error.ts';
import type { ConfigLookup, ObjectReference } from '../env/environment.ts';
import { fieldValue, type PodFacts, resourceFieldValue } from '../env/field-references.ts';

export interface PayloadFile {
  readonly bytes: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
}

/** By path below the volume, with "/" between the parts. */
export type Payload = ReadonlyMap<string, PayloadFile>;

export interface PayloadInput extends PodFacts, ConfigLookup {
  /** The tokens of a projected volume, by the index of its source. */
  readonly tokens: ReadonlyMap<number, string>;
}

/** What the API server fills in for configMap, secret, downwardAPI and projected volumes alike. */
export const DEFAULT_MODE = 0o644;

/** Which objects a volume's files come from. */
export function volumeReferences(volume: corev1.Volume): readonly ObjectReference[] {
  const one = (kind: ObjectReference['kind'], name: string | undefined) => (name ? [{ kind, name }] : []);
  return [
    ...one('ConfigMap', volume.configMap?.name),
    ...one('Secret', volume.secret?.secretName),
    ...(volume.projected?.sources ?? []).flatMap(({ configMap, secret }) => [
      ...one('ConfigMap', configMap?.name),
      ...one('Secret', secret?.name),
    ]),
  ];
}

/** Undefined for a volume of another kind. Throws ContainerConfigError when something is missing that is not optional. */
export function buildPayload(volume: corev1.Volume, input: PayloadInput): Payload | undefined {
  const { configMap, secret, downwardAPI, projected } = volume;
  const files = new Map<string, PayloadFile>();
  if (configMap) addConfigMap(files, configMap, configMap.defaultMode ?? DEFAULT_MODE, input);
  else if (secret) addSecret(files, { ...secret, name: secret.secretName }, secret.defaultMode ?? DEFAULT_MODE, input);
  else if (downwardAPI) addDownward(files, downwardAPI.items ?? [], downwardAPI.defaultMode ?? DEFAULT_MODE, input);
  else if (projected) {
    const mode = projected.defaultMode ?? DEFAULT_MODE;
    for (const [index, source] of (projected.sources ?? []).entries()) {
      if (source.configMap) addConfigMap(files, source.configMap, mode, input);
      else if (source.secret) addSecret(files, source.secret, mode, input);
      else if (source.downwardAPI) addDownward(files, source.downwardAPI.items ?? [], mode, input);
      else if (source.serviceAccountToken)
        addFile(files, source.serviceAccountToken.path, Buffer.from(input.tokens.get(index) ?? ''), mode);
    }
  } else return undefined;
  return files;
}

/**
 * Refuses what could leave the volume or hide the writer's own names: absolute paths, "..", empty parts, a first part
 * that begins with "..".
 */
export function checkRelativePath(path: string): void {
  const parts = path.split('/');
  const bad = parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'));
  if (bad || parts[0]!.startsWith('..'))
    throw new ContainerConfigError(`invalid path in a volume: ${JSON.stringify(path)}`);
}

function addFile(files: Map<string, PayloadFile>, path: string, bytes: Uint8Array, mode: number): void {
  checkRelativePath(path);
  files.set(path, { bytes, mode });
}

interface KeyedSource {
  readonly name?: string | undefined;
  readonly items?: readonly corev1.KeyToPath[];
  readonly optional?: boolean;
}

function addKeyed(
  files: Map<string, PayloadFile>,
  what: string,
  source: KeyedSource,
  data: ReadonlyMap<string, Uint8Array>,
  mode: number,
): void {
  if (!source.items?.length) {
    for (const [key, bytes] of data) addFile(files, key, bytes, mode);
    return;
  }
  for (const item of source.items) {
    const bytes = data.get(item.key);
    if (bytes) addFile(files, item.path, bytes, item.mode ?? mode);
    else if (!source.optional)
      throw new ContainerConfigError(`${what} references non-existent ${what} key: ${item.key}`);
  }
}

function addConfigMap(files: Map<string, PayloadFile>, source: KeyedSource, mode: number, input: PayloadInput): void {
  const object = input.configMap(source.name ?? '');
  if (!object && !source.optional) throw new ContainerConfigError(`configmap ${JSON.stringify(source.name)} not found`);
  const data = new Map<string, Uint8Array>();
  for (const [key, text] of Object.entries(object?.data ?? {})) data.set(key, Buffer.from(text));
  for (const [key, base64] of Object.entries(object?.binaryData ?? {})) data.set(key, Buffer.from(base64, 'base64'));
  addKeyed(files, 'configmap', source, data, mode);
}

function addSecret(files: Map<string, PayloadFile>, source: KeyedSource, mode: number, input: PayloadInput): void {
  const object = input.secret(source.name ?? '');
  if (!object && !source.optional) throw new ContainerConfigError(`secret ${JSON.stringify(source.name)} not found`);
  const data = new Map<string, Uint8Array>();
  for (const [key, base64] of Object.entries(object?.data ?? {})) data.set(key, Buffer.from(base64, 'base64'));
  addKeyed(files, 'secret', source, data, mode);
}

function addDownward(
  files: Map<string, PayloadFile>,
  items: readonly corev1.DownwardAPIVolumeFile[],
  defaultMode: number,
  input: PayloadInput,
): void {
  for (const { path, mode, fieldRef, resourceFieldRef } of items) {
    const text = fieldRef
      ? fieldValue(fieldRef.fieldPath, input)
      : resourceFieldRef
        ? resourceFieldValue(resourceFieldRef, undefined, input)
        : '';
    addFile(files, path, Buffer.from(text), mode ?? defaultMode);
  }
}
