/**
 * A process with podwire's API server and a store in memory: `api-server.ts FOLDER SOCKETS SERVICES SERVER…` listens on
 * 127.0.0.1 and on so many inherited sockets from descriptor 3 on, holds so many Services of which the last leads to the servers,
 * and prints a line with what a client needs. Ends with its standard input.
 */
import { join } from 'node:path';
import { encodeForStore } from '../../../src/apiserver/cache/stored-object.ts';
import { storeKey } from '../../../src/apiserver/cache/watch-cache.ts';
import { ensureAuthority, ensureServiceAccountKey, issueCertificate } from '../../../src/apiserver/pki.ts';
import { kinds } from '../../../src/apiserver/resources/index.ts';
import type { Existing } from '../../../src/apiserver/resources/kind.ts';
import { startApiServer } from '../../../src/apiserver/server.ts';
import { silentLogger } from '../../../src/base/log.ts';
import type { KubeObject } from '../../../src/kube/types.ts';
import type { Mutation, RevisionedStore } from '../../../src/store/contract.ts';
import { memoryStore } from '../../../src/store/memory.ts';
import { firstEndpoints, node, service, slice } from './objects.ts';

/** What is printed. */
export interface ServedApi {
  /** On the machine's 127.0.0.1, then those of the inherited sockets. */
  readonly ports: readonly number[];
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const FIRST_INHERITED_FD = 3;

async function fill(store: RevisionedStore, count: number, servers: readonly string[]): Promise<void> {
  const numbers = Array.from({ length: count }, (_, n) => n);
  const slices = numbers.map((n) => slice(n, n === count - 1 ? servers : firstEndpoints(n)));
  const mutations = [...stored('nodes', [node()]), ...stored('services', numbers.map(service))];
  await store.commit({ compares: [], mutations: [...mutations, ...stored('endpointslices', slices)] });
}

function stored(plural: string, objects: readonly KubeObject[]): Mutation[] {
  const kind = kinds.find((one) => one.plural === plural)!;
  return objects.map((object) => {
    const key = storeKey(kind, kind.namespaced ? object.metadata.namespace : undefined, object.metadata.name);
    return { key, value: encodeForStore(object as unknown as Existing) };
  });
}

async function serve(folder: string, sockets: number, count: number, servers: readonly string[]): Promise<ServedApi> {
  const pki = join(folder, 'pki');
  const authority = await ensureAuthority(pki);
  const own = await issueCertificate(authority, {
    commonName: 'kube-apiserver',
    sans: ['127.0.0.1', 'localhost'],
    usages: ['server'],
  });
  const admin = await issueCertificate(authority, {
    commonName: 'kubernetes-admin',
    organizations: ['system:masters'],
    usages: ['client'],
  });
  const store = memoryStore();
  await fill(store, count, servers);
  const inherited = Array.from({ length: sockets }, (_, i) => ({ fd: FIRST_INHERITED_FD + i }));
  const { ports } = await startApiServer(
    {
      store,
      tls: { ca: authority.cert, ...own },
      serviceAccountKey: await ensureServiceAccountKey(pki),
      listeners: [{ host: '127.0.0.1', port: 0 }, ...inherited],
      advertiseAddresses: ['192.0.2.1'],
      advertisePort: 6443,
      serviceCidrs: ['10.96.0.0/12'],
      kubeletTls: { ca: authority.cert, ...admin },
      log: silentLogger,
    },
    new AbortController().signal,
  );
  return { ports, ca: authority.cert, cert: admin.cert, key: admin.key };
}

const [folder = '', sockets, count, ...servers] = process.argv.slice(2);
process.stdout.write(`${JSON.stringify(await serve(folder, Number(sockets), Number(count), servers))}\n`);
process.stdin.on('close', () => process.exit()).resume();
