/**
 * The server's process, all of its wiring in one place: the durable store, the API server, the controllers (which speak to it
 * as any client does), and the registry that the nodes pull images from.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureServiceAccountKey } from '../apiserver/pki.ts';
import { startApiServer } from '../apiserver/server.ts';
import { createLogger, type Logger } from '../base/log.ts';
import { OciLayout } from '../cluster/images/layout.ts';
import { createRegistry } from '../cluster/images/registry.ts';
import { startControllers } from '../controllers/all.ts';
import { HttpClient } from '../kube/http-client.ts';
import { lmdbStore } from '../store/lmdb.ts';
import { runRole } from './run-role.ts';

export interface ServerOptions {
  readonly pki: string;
  readonly store: string;
  readonly listenFd?: number;
  readonly listen?: readonly string[];
  readonly port: number;
  readonly serviceCidr: readonly string[];
  readonly clusterCidr: readonly string[];
  readonly clusterDomain: string;
  readonly nodeMaskIpv4?: number;
  readonly nodeMaskIpv6?: number;
  /** In milliseconds. */
  readonly nodeGracePeriod?: number;
  readonly loadBalancerPool?: readonly string[];
  readonly registryPort?: number;
  readonly registry?: readonly string[];
}

export function runServer(options: ServerOptions): Promise<void> {
  const log = createLogger('server');
  return runRole(log, (signal) => startServer(options, log, signal));
}

export async function startServer(options: ServerOptions, log: Logger, signal: AbortSignal): Promise<void> {
  const { listen = [], port } = options;
  const file = (name: string) => readFileSync(join(options.pki, name), 'utf8');
  const tls = (name: string) => ({ ca: file('ca.crt'), cert: file(`${name}.crt`), key: file(`${name}.key`) });
  const store = lmdbStore({ path: options.store });
  const server = await startApiServer(
    {
      store,
      tls: tls('server'),
      kubeletTls: tls('kubelet-client'),
      serviceAccountKey: await ensureServiceAccountKey(options.pki),
      listeners: [
        ...(options.listenFd === undefined ? [] : [{ fd: options.listenFd }]),
        ...listen.map((host) => ({ host, port })),
      ],
      advertiseAddresses: listen,
      advertisePort: port,
      serviceCidrs: options.serviceCidr,
      clusterDomain: options.clusterDomain,
      log: log.child({ component: 'apiserver' }),
    },
    signal,
  );
  signal.addEventListener('abort', () => void server.stop().then(() => store.close()), { once: true });
  serveImages(options, signal);
  const access = { ...tls('controllers'), server: `https://${hostOf(listen[0] ?? '127.0.0.1')}:${port}` };
  const client = new HttpClient({ access, userAgent: 'podwire-controllers' });
  await startControllers(
    {
      client,
      log: log.child({ component: 'controllers' }),
      options: {
        clusterCidrs: options.clusterCidr,
        rootCa: access.ca,
        nodeMaskSizes: { ipv4: options.nodeMaskIpv4, ipv6: options.nodeMaskIpv6 },
        nodeGracePeriodMs: options.nodeGracePeriod,
        loadBalancerPool: options.loadBalancerPool ?? [],
        reservedCidrs: [...options.clusterCidr, ...options.serviceCidr],
      },
    },
    signal,
  );
  log.info({ listen, port }, 'the server is up');
}

function hostOf(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

function serveImages({ listen = [], registryPort, registry = [] }: ServerOptions, signal: AbortSignal): void {
  if (registryPort === undefined) return;
  for (const address of listen) {
    const server = createRegistry(registry.map((path) => new OciLayout(path)));
    server.listen(registryPort, address);
    signal.addEventListener('abort', () => server.close(), { once: true });
  }
}
