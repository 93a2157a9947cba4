/**
 * A namespace without a way out in which a DNS server answers at 10.96.0.10 and fd00:10:96::a, and a place to run clients as
 * a pod would: with its resolv.conf, in a mount namespace of their own.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import type { DnsServerOptions } from './dns-server.ts';

export const DNS_ADDRESSES = ['10.96.0.10', 'fd00:10:96::a'] as const;

const http = { name: 'http', protocol: 'TCP', port: 80 };
const meta = (namespace: string, name: string) => ({ namespace, name });
const slice = (namespace: string, service: string, name = `${service}-1`) => ({
  ...meta(namespace, name),
  labels: { 'kubernetes.io/service-name': service },
});

/** What the cluster has: a Service of two families, a headless one with names, one with 200 endpoints, an ExternalName. */
export const objects: Omit<DnsServerOptions, 'addresses'> = {
  namespaces: ['default', 'other', 'kube-system'],
  services: [
    {
      metadata: meta('default', 'my-service'),
      spec: { clusterIP: '10.96.0.50', clusterIPs: ['10.96.0.50', 'fd00:10:96::50'], ports: [http] },
    },
    {
      metadata: meta('other', 'their-service'),
      spec: { clusterIP: '10.96.0.60', clusterIPs: ['10.96.0.60'], ports: [http] },
    },
    { metadata: meta('default', 'db'), spec: { clusterIP: 'None', ports: [http] } },
    { metadata: meta('default', 'many'), spec: { clusterIP: 'None', ports: [http] } },
    {
      metadata: meta('default', 'alias'),
      spec: { type: 'ExternalName', externalName: 'their-service.other.svc.cluster.local' },
    },
  ],
  slices: [
    {
      metadata: slice('default', 'db'),
      addressType: 'IPv4',
      endpoints: [
        { addresses: ['10.244.1.5'], hostname: 'db-0' },
        { addresses: ['10.244.1.6'], hostname: 'db-1' },
      ],
      ports: [http],
    },
    {
      metadata: slice('default', 'many'),
      addressType: 'IPv4',
      endpoints: Array.from({ length: 200 }, (_, i) => ({ addresses: [`10.244.2.${i + 1}`] })),
      ports: [http],
    },
  ],
  pods: [],
};

/** What a pod of the namespace gets (dnsPolicy ClusterFirst). */
export function resolvConf(namespace: string, nameservers: readonly string[] = DNS_ADDRESSES): string {
  return [
    ...nameservers.map((address) => `nameserver ${address}`),
    `search ${namespace}.svc.cluster.local svc.cluster.local cluster.local`,
    'options ndots:5',
    '',
  ].join('\n');
}

export interface ClientResult {
  readonly code: number;
  readonly stdout: string;
}

export class DnsLab {
  readonly #ns: NetworkNamespace;
  readonly #folder: string;
  readonly #server: ChildProcess;

  private constructor(ns: NetworkNamespace, folder: string, server: ChildProcess) {
    this.#ns = ns;
    this.#folder = folder;
    this.#server = server;
  }

  /** Whoever starts it stops it; the server also ends with this process, whose pipe it reads. */
  static async start(ns: NetworkNamespace): Promise<DnsLab> {
    const netlink = Rtnetlink.open(ns);
    netlink.addAddress({ device: 'lo', address: `${DNS_ADDRESSES[0]}/32` });
    netlink.addAddress({ device: 'lo', address: `${DNS_ADDRESSES[1]}/128`, nodad: true });
    netlink.close();
    const options: DnsServerOptions = { addresses: DNS_ADDRESSES, ...objects };
    const program = join(import.meta.dirname, 'dns-server.ts');
    const server = ns.run(() =>
      spawn(process.execPath, [program, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    const folder = mkdtempSync(join(tmpdir(), 'podwire-dns-'));
    const lab = new DnsLab(ns, folder, server);
    const line = await Promise.race([once(server.stdout!, 'data'), once(server, 'exit').then(() => ['ended'])]);
    if (String(line[0]).includes('ready')) return lab;
    await lab.stop();
    throw new Error(`the DNS server did not start: ${line[0]}`);
  }

  async stop(): Promise<void> {
    if (this.alive) {
      const exited = once(this.#server, 'exit');
      this.#server.kill('SIGKILL');
      await exited;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Whether the server still runs. */
  get alive(): boolean {
    return this.#server.exitCode === null && this.#server.signalCode === null;
  }

  /** The server's counters. */
  async metrics(): Promise<Record<string, unknown>> {
    const answered = once(this.#server.stdout!, 'data');
    this.#server.stdin!.write('metrics\n');
    return JSON.parse(String((await answered)[0])) as Record<string, unknown>;
  }

  /** Runs a command where a pod of the namespace would: with its resolv.conf, without its hosts file's help. */
  run(namespace: string, command: readonly string[], conf = resolvConf(namespace)): Promise<ClientResult> {
    const resolv = join(this.#folder, `resolv-${Math.random()}`);
    const nsswitch = join(this.#folder, 'nsswitch');
    writeFileSync(resolv, conf);
    writeFileSync(nsswitch, 'hosts: dns\n');
    const script =
      'mount --bind "$1" /etc/resolv.conf && { [ ! -e /etc/nsswitch.conf ] || mount --bind "$2" /etc/nsswitch.conf; } && shift 2 && exec "$@"';
    const args = ['--mount', 'sh', '-c', script, 'sh', resolv, nsswitch, ...command];
    return new Promise((resolve) => {
      this.#ns.run(() =>
        execFile('unshare', args, { timeout: 20_000 }, (error, stdout, stderr) => {
          resolve({ code: error ? Number(error.code ?? 1) : 0, stdout: stdout + stderr });
        }),
      );
    });
  }

  /** Runs a module of Node inside the namespace. */
  node(source: string): Promise<ClientResult> {
    return this.run('default', [process.execPath, '--input-type=module', '--eval', source]);
  }
}
