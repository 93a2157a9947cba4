/** Creates or updates objects of any kind, as `kubectl apply` is mostly used: the manifest's fields are made so. */
import type { HttpClient } from '../kube/http-client.ts';
import { isAlreadyExists, isNotFound, statusError } from '../kube/status.ts';
import type { KubeObject, ObjectMeta } from '../kube/types.ts';

/** An object of any kind as people write it. */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

interface Discovered {
  readonly name: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

/** Applies in the order given; a List is opened. Rejects with the server's Status at the first refusal. */
export async function applyManifests(
  client: HttpClient,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<Manifest[]> {
  const applied: Manifest[] = [];
  for (const manifest of manifests) {
    if (manifest.kind === 'List') {
      applied.push(...(await applyManifests(client, (manifest['items'] ?? []) as Manifest[], namespace)));
    } else {
      applied.push(await applyOne(client, manifest, namespace));
    }
  }
  return applied;
}

async function applyOne(client: HttpClient, manifest: Manifest, namespace: string): Promise<Manifest> {
  const collection = await collectionPath(client, manifest, namespace);
  const at = `${collection}/${encodeURIComponent(manifest.metadata.name ?? '')}`;
  try {
    return await client.json<Manifest>({ method: 'POST', path: collection, body: manifest });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
  }
  try {
    const contentType = 'application/strategic-merge-patch+json';
    return await client.json<Manifest>({ method: 'PATCH', path: at, body: manifest, contentType });
  } catch (error) {
    if (!isNotFound(error)) throw error;
    return client.json<Manifest>({ method: 'POST', path: collection, body: manifest });
  }
}

async function collectionPath(client: HttpClient, manifest: Manifest, namespace: string): Promise<string> {
  const { apiVersion, kind } = manifest as KubeObject;
  if (!apiVersion || !kind) throw statusError('BadRequest', 'a manifest needs apiVersion and kind');
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const { resources } = await client.json<{ resources: Discovered[] }>({ method: 'GET', path: root });
  const found = resources.find((one) => one.kind === kind && !one.name.includes('/'));
  if (!found) throw statusError('NotFound', `no matches for kind "${kind}" in version "${apiVersion}"`);
  const scope = found.namespaced ? `/namespaces/${manifest.metadata.namespace ?? namespace}` : '';
  return `${root}${scope}/${found.name}`;
}
