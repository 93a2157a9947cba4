/** Starts the servers that are measured; each is a process of its own on a port of 127.0.0.1. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeQuery } from '../../src/node/dns/encode.ts';
import { addressOf, nameOf, SERVICES } from './names.ts';

const START_TIMEOUT_MS = 30_000;

export class MeasuredServer implements AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #cleanUp: () => Promise<void> | void;

  constructor(child: ChildProcess, port: number, cleanUp: () => Promise<void> | void = () => {}) {
    this.#child = child;
    this.pid = child.pid!;
    this.port = port;
    this.#cleanUp = cleanUp;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#child);
    await this.#cleanUp();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await exited;
  clearTimeout(timer);
}

/** Starts a module of this folder that prints its port. */
async function startModule(file: string, ...args: string[]): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, file), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const line = await Promise.race([once(child.stdout!, 'data'), once(child, 'exit')]);
  const port = Number(String(line[0]).trim());
  if (child.exitCode !== null || !(port > 1)) throw new Error(`${file} did not start`);
  return { child, port };
}

/** podwire's own, of whose Services one changes so many times a second. */
export async function startPodwire(changesPerSecond = 0): Promise<MeasuredServer> {
  const { child, port } = await startModule('server.ts', String(changesPerSecond));
  return new MeasuredServer(child, port);
}

/** Sockets without a DNS behind them. */
export async function startSockets(kind: 'dgram' | 'batch'): Promise<MeasuredServer> {
  const { child, port } = await startModule('sockets.ts', kind);
  return new MeasuredServer(child, port);
}

/** A program by an environment variable or on the PATH; undefined when it is not on this machine. */
export function findProgram(variable: string, name: string): string | undefined {
  const given = process.env[variable];
  if (given) return given;
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin'];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** unbound with the same names as local data, one thread. */
export async function startUnbound(program: string): Promise<MeasuredServer> {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-dns-'));
  const port = await freePort();
  const data = Array.from({ length: SERVICES }, (_, i) => `  local-data: "${nameOf(i)}. 5 IN A ${addressOf(i)}"`);
  const config = [
    'server:',
    '  interface: 127.0.0.1',
    `  port: ${port}`,
    '  num-threads: 1',
    '  do-daemonize: no',
    '  username: ""',
    '  chroot: ""',
    `  directory: "${folder}"`,
    '  pidfile: ""',
    '  use-syslog: no',
    '  verbosity: 0',
    '  module-config: "iterator"',
    '  local-zone: "cluster.local." static',
    ...data,
    'remote-control:',
    '  control-enable: no',
    '',
  ].join('\n');
  return startWithConfig(program, ['-d', '-c'], folder, 'unbound.conf', config, port);
}

/** CoreDNS as kubeadm configures it, over a Kubernetes API with the same objects. */
export async function startCoreDns(program: string): Promise<MeasuredServer> {
  const api = await startModule('kube-api.ts');
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-dns-'));
  const port = await freePort();
  const config = `.:${port} {
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      endpoint http://127.0.0.1:${api.port}
      pods insecure
      ttl 30
    }
    prometheus 127.0.0.1:0
    cache 30
    loadbalance
}
`;
  try {
    return await startWithConfig(program, ['-conf'], folder, 'Corefile', config, port, () => end(api.child));
  } catch (error) {
    await end(api.child);
    throw error;
  }
}

async function startWithConfig(
  program: string,
  args: readonly string[],
  folder: string,
  file: string,
  config: string,
  port: number,
  cleanUp: () => Promise<void> | void = () => {},
): Promise<MeasuredServer> {
  const path = join(folder, file);
  writeFileSync(path, config);
  const child = spawn(program, [...args, path], { stdio: ['ignore', 'ignore', 'ignore'] });
  const server = new MeasuredServer(child, port, async () => {
    rmSync(folder, { recursive: true, force: true });
    await cleanUp();
  });
  try {
    await answers(port, child);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

/** Waits until the last of the names is answered. */
async function answers(port: number, child: ChildProcess): Promise<void> {
  const socket = createSocket('udp4');
  let answered = false;
  socket.on('error', () => {});
  socket.on('message', (message) => {
    answered ||= (message[3]! & 0xf) === 0 && message.readUInt16BE(6) === 1;
  });
  const query = encodeQuery({ id: 1, name: nameOf(SERVICES - 1), type: 1 });
  try {
    for (let waited = 0; !answered; waited += 50) {
      if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`);
      if (waited > START_TIMEOUT_MS) throw new Error(`${child.spawnfile} does not answer`);
      socket.send(query, port, '127.0.0.1', () => {});
      await sleep(50);
    }
  } finally {
    socket.close();
  }
}
