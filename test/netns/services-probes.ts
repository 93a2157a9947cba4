/** What clients in a namespace do and meet: one connection, one datagram, or a flow of datagrams. */
import dgram from 'node:dgram';
import net, { isIPv6 } from 'node:net';
import { hasCode } from '../../src/linux/errors.ts';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { bindUdp, connectTcp } from '../../src/linux/sockets.ts';
import type { Protocol } from '../../src/node/services/model.ts';

/** The places of the lab and their addresses. */
export const PLACES = {
  a: ['10.244.0.2', 'fd00:10:244::2'],
  b: ['10.244.0.3', 'fd00:10:244::3'],
  c: ['10.244.0.4', 'fd00:10:244::4'],
  'far-a': ['10.244.1.2', 'fd00:10:244:1::2'],
  'far-b': ['10.244.1.3', 'fd00:10:244:1::3'],
  outside: ['198.51.100.2', '198.51.100.9', '2001:db8:64::2', '2001:db8:64::9'],
} as const;

export type Place = keyof typeof PLACES;

/** What a client met. */
export type Outcome =
  | { readonly kind: 'answer'; readonly endpoint: string; readonly seenSource: string }
  | { readonly kind: 'refused' | 'unreachable' | 'silence' };

export interface Probe {
  readonly from: Place | 'node';
  readonly destination: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly source?: string | undefined;
  readonly sourcePort?: number;
  /** What takes longer is silence, milliseconds. */
  readonly waitMs?: number;
}

/** Long enough for a busy machine, short enough for many drops; PODWIRE_SILENCE_MS for slower ones. */
const SILENCE_MS = Number(process.env['PODWIRE_SILENCE_MS'] ?? 400);

/** How long an answer that must come may take. */
export const PATIENCE_MS = 5000;

/** Does what is done from a place. */
export interface Prober {
  probe(probe: Probe): Promise<Outcome>;
  udpClient(probe: Probe): Promise<FlowClient>;
}

/** A client whose datagrams are one flow. */
export interface FlowClient extends Disposable {
  ask(): Promise<Outcome>;
}

/** One new connection or datagram; without a namespace, from the one of this process. */
export function probeIn(ns: NetworkNamespace | undefined, probe: Probe): Promise<Outcome> {
  return probe.protocol === 'tcp' ? probeTcp(ns, probe) : probeUdp(ns, probe);
}

async function probeTcp(ns: NetworkNamespace | undefined, probe: Probe): Promise<Outcome> {
  try {
    const socket = await connectIn(ns, probe);
    const text = await firstLine(socket, probe.waitMs);
    socket.destroy();
    return text === undefined ? { kind: 'silence' } : answerOf(text);
  } catch (error) {
    if (hasCode(error, 'ECONNREFUSED')) return { kind: 'refused' };
    if (hasCode(error, 'ETIMEDOUT')) return { kind: 'silence' };
    if (hasCode(error, 'EHOSTUNREACH', 'ENETUNREACH', 'EACCES')) return { kind: 'unreachable' };
    throw error;
  }
}

export async function connectIn(ns: NetworkNamespace | undefined, probe: Probe): Promise<net.Socket> {
  const { destination, port } = probe;
  const source = sourceOf(probe);
  const fd = await connectTcp({
    ...(ns ? { ns } : {}),
    address: destination,
    port,
    timeoutMs: probe.waitMs ?? SILENCE_MS,
    ...(source ? { source } : {}),
  });
  const socket = new net.Socket({ fd, readable: true, writable: true });
  socket.on('error', () => {});
  return socket;
}

async function probeUdp(ns: NetworkNamespace | undefined, probe: Probe): Promise<Outcome> {
  using client = await udpClientIn(ns, probe);
  return await client.ask(probe.waitMs);
}

export async function udpClientIn(ns: NetworkNamespace | undefined, probe: Probe): Promise<UdpClient> {
  const { destination, port, sourcePort } = probe;
  const any = isIPv6(destination) ? '::' : '0.0.0.0';
  const fd = bindUdp({ ...(ns ? { ns } : {}), address: sourceOf(probe) ?? any, port: sourcePort ?? 0 });
  const socket = dgram.createSocket(isIPv6(destination) ? 'udp6' : 'udp4');
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  return UdpClient.connect(socket, destination, port);
}

class UdpClient implements FlowClient {
  readonly #socket: dgram.Socket;

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
  }

  static connect(socket: dgram.Socket, destination: string, port: number): Promise<UdpClient> {
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(port, destination, () => {
        socket.off('error', reject);
        resolve(new UdpClient(socket));
      });
    });
  }

  ask(waitMs = SILENCE_MS): Promise<Outcome> {
    const socket = this.#socket;
    return new Promise((resolve) => {
      const finish = (outcome: Outcome) => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on('error', () => {});
        resolve(outcome);
      };
      const onError = (error: NodeJS.ErrnoException) => {
        // The node's own packets are refused where they are sent: EPERM.
        const isRefused = error.code === 'ECONNREFUSED' || error.code === 'EPERM';
        finish({ kind: isRefused ? 'refused' : 'unreachable' });
      };
      const timer = setTimeout(() => finish({ kind: 'silence' }), waitMs);
      socket.once('message', (message) => finish(answerOf(message.toString())));
      socket.once('error', onError);
      socket.send('who', (error) => error && onError(error as NodeJS.ErrnoException));
    });
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** The given source, or the first address of the place; the node's is left to the kernel. */
function sourceOf({ from, destination, source }: Probe): string | undefined {
  if (source || from === 'node') return source;
  return PLACES[from].find((address) => isIPv6(address) === isIPv6(destination));
}

function answerOf(text: string): Outcome {
  const [endpoint, seenSource] = text.trim().split('|') as [string, string];
  return { kind: 'answer', endpoint, seenSource };
}

function firstLine(socket: net.Socket, waitMs = SILENCE_MS): Promise<string | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(undefined), waitMs);
    const finish = (text: string | undefined) => {
      clearTimeout(timer);
      resolve(text);
    };
    socket.once('data', (bytes) => finish(bytes.toString().split('\n')[0]));
    socket.once('close', () => finish(undefined));
  });
}
