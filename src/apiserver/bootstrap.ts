/** What is there in every cluster from the first start on: the system namespaces, and the Service of the API itself. */

import { isDeepStrictEqual } from 'node:util';
import { cidrAddress, familyName, familyOf, parseCidr } from '../base/ip.ts';
import { apiVersionOf } from '../kube/names.ts';
import { isAlreadyExists } from '../kube/status.ts';
import { type Api, copyOf } from './context.ts';
import type { ApiObject, Kind } from './resources/kind.ts';
import { decode } from './schema/decode.ts';
import { createObject } from './verbs/create.ts';

const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];

export interface BootstrapOptions {
  readonly serviceCidrs: readonly string[];
  readonly advertiseAddresses: readonly string[];
  readonly advertisePort: number;
}

export async function bootstrap(api: Api, options: BootstrapOptions): Promise<void> {
  await Promise.all(NAMESPACES.map((name) => ensure(api, 'namespaces', { metadata: { name } })));
  const labels = { component: 'apiserver', provider: 'kubernetes' };
  const metadata = { name: 'kubernetes', namespace: 'default' };
  const block = parseCidr(options.serviceCidrs[0]!);
  await ensure(api, 'services', {
    metadata: { ...metadata, labels },
    spec: {
      type: 'ClusterIP',
      clusterIP: cidrAddress(block, 1),
      ipFamilyPolicy: 'SingleStack',
      ipFamilies: [familyName(block.family)],
      ports: [{ name: 'https', protocol: 'TCP', port: 443, targetPort: options.advertisePort }],
    },
  });
  const addresses = options.advertiseAddresses.filter((address) => familyOf(address) === block.family);
  await ensure(
    api,
    'endpoints',
    {
      metadata: { ...metadata, labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } },
      subsets: [
        {
          addresses: addresses.map((ip) => ({ ip })),
          ports: [{ name: 'https', port: options.advertisePort, protocol: 'TCP' }],
        },
      ],
    },
    ['subsets'],
  );
  await ensure(
    api,
    'endpointslices',
    {
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'kubernetes' } },
      addressType: familyName(block.family),
      endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
      ports: [{ name: 'https', port: options.advertisePort, protocol: 'TCP' }],
    },
    ['endpoints', 'ports'],
  );
}

/** Creates the object, or brings the named fields of the one that is there up to date. */
async function ensure(api: Api, plural: string, draft: object, fields: readonly string[] = []): Promise<void> {
  const kind = api.kinds.find((other) => other.plural === plural);
  if (!kind) return;
  const object = decoded(kind, draft);
  const { namespace, name } = object.metadata;
  if (!api.storage.find(kind, namespace, name)) {
    try {
      await createObject(api, kind, object);
      return;
    } catch (error) {
      // Another server of the same store was faster.
      if (!isAlreadyExists(error)) throw error;
    }
  }
  if (fields.length === 0) return;
  await api.storage.update(kind, namespace, name, ({ object: current }) => {
    if (fields.every((field) => isDeepStrictEqual(current[field], object[field]))) return { keep: true };
    const next = copyOf(current) as ApiObject;
    for (const field of fields) next[field] = object[field];
    return { put: next };
  });
}

function decoded(kind: Kind, draft: object): ApiObject {
  const object = decode(kind.schema, { ...draft, apiVersion: apiVersionOf(kind), kind: kind.kind }).value as ApiObject;
  kind.applyDefaults?.(object);
  return object;
}
