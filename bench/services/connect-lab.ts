/** Where connects are timed: a client and a server, with the node's rules between them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { checkedCommand } from '../../src/base/command.ts';
import { KernelError } from '../../src/linux/errors.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { closeFd, connectTcpSync } from '../../src/linux/sockets.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';
import { distribution } from '../metrics.ts';

const CONNECTS = 4000;
const EXCHANGES = 10_000;
/** A connect that goes anywhere is answered within microseconds, in milliseconds. */
const ANSWER_MS = 20;
/** Where the server is, by both of its addresses. */
export const SERVERS = ['10.244.0.2', '10.244.0.3'];
export const SERVER = '10.244.0.2';

/** Compiled connect.c and exchange.c. */
export interface Programs {
  readonly connect: string;
  readonly exchange: string;
}

/** Compiles them into the folder. */
export async function compilePrograms(folder: string): Promise<Programs> {
  const programs = { connect: join(folder, 'connect'), exchange: join(folder, 'exchange') };
  for (const [name, path] of Object.entries(programs))
    await checkedCommand(['gcc', '-O2', '-o', path, join(import.meta.dirname, `${name}.c`)]);
  return programs;
}

/** Client and server in namespaces of their own, the rules in the node between them. */
export class ConnectLab implements Disposable {
  readonly node = NetworkNamespace.anonymous();
  readonly #clients = NetworkNamespace.anonymous();
  readonly #server = NetworkNamespace.anonymous();
  readonly #programs: Programs;
  /** Clients run in this control group, where one is given: the node's and its pods' of the mode ebpf. */
  readonly #cgroup: string | undefined;
  #serving: ChildProcess | undefined;

  constructor(programs: Programs, cgroup?: string) {
    this.#programs = programs;
    this.#cgroup = cgroup;
    writeSysctl(this.node, 'net.ipv4.ip_forward', 1);
    using links = Rtnetlink.open(this.node);
    this.#attach(links, 'client', this.#clients, ['10.244.0.9']);
    this.#attach(links, 'server', this.#server, SERVERS);
  }

  #attach(links: Rtnetlink, name: string, ns: NetworkNamespace, addresses: readonly string[]): void {
    const index = links.createVeth({ name, up: true, peer: { name: 'eth0', netns: ns } });
    links.addAddress({ device: index, address: '169.254.1.1/32', scope: 'link' });
    using inside = Rtnetlink.open(ns);
    inside.setLink('eth0', { up: true });
    for (const each of addresses) {
      inside.addAddress({ device: 'eth0', address: `${each}/32` });
      links.addRoute({ destination: `${each}/32`, device: index });
    }
    inside.addRoute({ destination: '0.0.0.0/0', via: '169.254.1.1', device: 'eth0', onlink: true });
  }

  async serve(): Promise<void> {
    await this.#run(this.#programs.connect, ['serve', '8080']);
  }

  /** The same for `exchange`. */
  async echo(): Promise<void> {
    await this.#run(this.#programs.exchange, ['serve', '8080']);
  }

  async #run(program: string, args: readonly string[]): Promise<void> {
    this.#serving = this.#server.run(() => spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] }));
    await once(this.#serving.stdout!, 'data');
  }

  /** Whether a Service leads to the server now. */
  reaches(address: string): boolean {
    try {
      closeFd(connectTcpSync({ ns: this.#clients, address, port: 80, timeoutMs: ANSWER_MS }));
      return true;
    } catch (error) {
      if (error instanceof KernelError) return false;
      throw error;
    }
  }

  /** Microseconds of a connect above a direct one, round by round. */
  measure(target: string): number[] {
    const { direct, other } = roundsOf(
      this.#client(this.#programs.connect, [String(CONNECTS), SERVER, '8080', target, '80']),
    );
    return other.map((each) => each - direct);
  }

  /** How long a request and its answer take on an open connection (or in one UDP flow), in percent of a direct one. */
  exchange(protocol: 'tcp' | 'udp', target: string): number[] {
    const args = [String(EXCHANGES), protocol, SERVER, '8080', target, '80'];
    const { direct, other } = roundsOf(this.#client(this.#programs.exchange, args));
    return other.map((each) => (100 * each) / direct);
  }

  #client(program: string, args: readonly string[]): string {
    const enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"';
    const argv = this.#cgroup ? ['sh', '-c', enter, this.#cgroup, program, ...args] : [program, ...args];
    const [file, ...rest] = argv as [string, ...string[]];
    return this.#clients.run(() => execFileSync(file, rest, { encoding: 'utf8', maxBuffer: 1 << 26 }));
  }

  [Symbol.dispose](): void {
    this.#serving?.kill('SIGKILL');
    for (const ns of [this.node, this.#clients, this.#server]) ns.close();
  }
}

/** Of lines "direct other": the median of direct, and all of other. */
function roundsOf(text: string): { readonly direct: number; readonly other: readonly number[] } {
  const rounds = text
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number) as [number, number]);
  return { direct: distribution(rounds.map(([first]) => first)).p50, other: rounds.map(([, second]) => second) };
}
