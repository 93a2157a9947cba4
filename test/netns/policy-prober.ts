/**
 * Knocks at addresses without a pause, in a process of its own so that nobody it watches makes it wait: one datagram to each
 * address from each namespace, over and over, and TCP connections beside. Ends with its standard input; then it prints what
 * it did as JSON.
 *
 *     node policy-prober.ts '{"namespaces":[path…],"addresses":[…],"port":9000}'
 */
import { setImmediate as turn } from 'node:timers/promises';
import { libc } from '../../src/linux/libc.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { bindUdp, closeFd, connectTcp, encodeSocketAddress } from '../../src/linux/sockets.ts';

export interface ProberTask {
  readonly namespaces: readonly string[];
  readonly addresses: readonly string[];
  readonly port: number;
}

export interface ProberReport {
  /** Times that every address was tried from every namespace. */
  readonly sweeps: number;
  readonly datagrams: number;
  readonly tcpTries: number;
  readonly tcpConnected: number;
  /** Milliseconds. */
  readonly elapsed: number;
}

const MSG_DONTWAIT = 0x40;
/** A TCP connection that is let in is there in far less. */
const tcpTimeoutMs = 60;

async function main(): Promise<void> {
  const { namespaces, addresses, port } = JSON.parse(process.argv[2]!) as ProberTask;
  const spaces = namespaces.map((path) => NetworkNamespace.open(path));
  const sockets = spaces.map((ns) => ({
    v4: bindUdp({ ns, address: '0.0.0.0', port: 0 }),
    v6: bindUdp({ ns, address: '::', port: 0 }),
  }));
  const targets = addresses.map((address) => ({
    to: encodeSocketAddress(address, port),
    family: address.includes(':') ? ('v6' as const) : ('v4' as const),
  }));
  const byte = Buffer.from('?');
  let running = true;
  process.stdin.resume();
  process.stdin.once('end', () => {
    running = false;
  });
  const report = { sweeps: 0, datagrams: 0, tcpTries: 0, tcpConnected: 0, elapsed: 0 };
  const began = performance.now();
  process.stdout.write('knocking\n');
  // Few at a time: each costs as much as many datagrams.
  const queue = endless(addresses);
  const knockTcp = async (ns: NetworkNamespace) => {
    for (const address of queue) {
      if (!running) return;
      report.tcpTries++;
      try {
        closeFd(await connectTcp({ ns, address, port, timeoutMs: tcpTimeoutMs }));
        report.tcpConnected++;
      } catch {
        // Silence, as it should be, or no such address yet.
        await turn();
      }
    }
  };
  const knockUdp = async () => {
    while (running) {
      for (const { to, family } of targets) {
        for (const socket of sockets) libc.sendto(socket[family], byte, 1, MSG_DONTWAIT, to, to.length);
        report.datagrams += sockets.length;
      }
      report.sweeps++;
      await turn();
    }
  };
  await Promise.all([knockUdp(), ...Array.from({ length: 12 }, (_, i) => knockTcp(spaces[i % spaces.length]!))]);
  report.elapsed = performance.now() - began;
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

function* endless<T>(items: readonly T[]): Generator<T> {
  for (;;) yield* items;
}

if (process.argv[1] === import.meta.filename) await main();
