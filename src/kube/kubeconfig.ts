/**
 * The kubeconfig file: reading the current context's cluster and user, and merging and removing one named context as kind
 * does. Unknown content is kept as it is.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { parse, stringify } from 'yaml';
import { codeOf, UserError } from '../base/errors.ts';

/** How to reach and to authenticate to an API server; PEM texts. */
export interface ClusterAccess {
  /** "https://127.0.0.1:6443" */
  readonly server: string;
  readonly ca: string;
  readonly cert?: string;
  readonly key?: string;
  readonly token?: string;
}

interface Named<T extends string, V> {
  name: string;
  [key: string]: unknown;
  readonly __field?: T;
  readonly __value?: V;
}

interface KubeconfigFile {
  apiVersion?: string;
  kind?: string;
  clusters?: Named<'cluster', unknown>[];
  users?: Named<'user', unknown>[];
  contexts?: Named<'context', unknown>[];
  'current-context'?: string;
  [key: string]: unknown;
}

/** The file that kubectl writes to: the first of $KUBECONFIG, else ~/.kube/config. */
export function defaultKubeconfigPath(env: NodeJS.ProcessEnv = process.env): string {
  return env['KUBECONFIG']?.split(':').find((path) => path !== '') ?? join(env['HOME'] ?? homedir(), '.kube', 'config');
}

/** The text of a kubeconfig with one context. */
export function renderKubeconfig(name: string, access: ClusterAccess): string {
  return stringify(withContext({}, name, access));
}

/** Adds or replaces the context, cluster and user of the name and makes it current. */
export function mergeIntoKubeconfig(path: string, name: string, access: ClusterAccess): void {
  writeFile(path, withContext(readFile(path), name, access));
}

/** Removes the context, cluster and user of the name; a current-context that pointed there is cleared. */
export function removeFromKubeconfig(path: string, name: string): void {
  const file = readFile(path);
  const without = <T extends { name: string }>(entries: T[] | undefined) => entries?.filter((one) => one.name !== name);
  if (!file.contexts?.some((context) => context.name === name)) return;
  file.clusters = without(file.clusters);
  file.users = without(file.users);
  file.contexts = without(file.contexts);
  if (file['current-context'] === name) file['current-context'] = '';
  writeFile(path, file);
}

/** Reads the access data of a context, by default the current one. */
export function readKubeconfig(path: string, contextName?: string): ClusterAccess {
  const file = readFile(path);
  const name = contextName ?? file['current-context'];
  const context = find(file.contexts, name)?.['context'] as { cluster?: string; user?: string } | undefined;
  if (!context) throw new UserError(`${path} has no context ${JSON.stringify(name ?? '')}`);
  const cluster = find(file.clusters, context.cluster)?.['cluster'] as Record<string, string> | undefined;
  const user = find(file.users, context.user)?.['user'] as Record<string, string> | undefined;
  if (!cluster?.['server']) throw new UserError(`${path}: the cluster of context ${name} has no server`);
  return {
    server: cluster['server'],
    ca: pem(path, cluster, 'certificate-authority') ?? '',
    cert: pem(path, user, 'client-certificate'),
    key: pem(path, user, 'client-key'),
    token: user?.['token'] ?? (user?.['tokenFile'] ? readFileSync(user['tokenFile'], 'utf8').trim() : undefined),
  };
}

function pem(path: string, entry: Record<string, string> | undefined, field: string): string | undefined {
  if (entry?.[`${field}-data`]) return Buffer.from(entry[`${field}-data`]!, 'base64').toString();
  const file = entry?.[field];
  return file ? readFileSync(file.startsWith('/') ? file : join(dirname(path), file), 'utf8') : undefined;
}

function find<T extends { name: string }>(entries: T[] | undefined, name: string | undefined): T | undefined {
  return entries?.find((entry) => entry.name === name);
}

function withContext(file: KubeconfigFile, name: string, access: ClusterAccess): KubeconfigFile {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const user = {
    ...(access.cert ? { 'client-certificate-data': base64(access.cert) } : {}),
    ...(access.key ? { 'client-key-data': base64(access.key) } : {}),
    ...(access.token ? { token: access.token } : {}),
  };
  const put = <T extends { name: string }>(entries: T[] | undefined, entry: T): T[] => [
    ...(entries ?? []).filter((one) => one.name !== name),
    entry,
  ];
  return {
    ...file,
    apiVersion: 'v1',
    kind: 'Config',
    clusters: put(file.clusters, {
      name,
      cluster: { server: access.server, 'certificate-authority-data': base64(access.ca) },
    }),
    users: put(file.users, { name, user }),
    contexts: put(file.contexts, { name, context: { cluster: name, user: name } }),
    'current-context': name,
  };
}

function readFile(path: string): KubeconfigFile {
  try {
    return (parse(readFileSync(path, 'utf8')) ?? {}) as KubeconfigFile;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return {};
    throw new UserError(`cannot read the kubeconfig ${path}`, { cause: error, hint: 'mend or move the file away' });
  }
}

/** Replaces the file by rename, so that no reader ever sees half of it; it holds a private key: mode 0600. */
function writeFile(path: string, file: KubeconfigFile): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.podwire-${process.pid}`;
  writeFileSync(temporary, stringify(file), { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
}
