/**
 * Whether datagrams get from one namespace into another: without an answer from whoever listens there, and where nobody
 * does. The sender says a word that nobody else says; a raw socket in the receiving namespace hears it or does not.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { familyOf } from '../base/ip.ts';
import { DatagramEars } from '../linux/datagram-ears.ts';
import { ERRNO } from '../linux/errors.ts';
import { getSocketOption, lastErrno, libc, SOL_SOCKET } from '../linux/libc.ts';
import type { NetworkNamespace } from '../linux/netns.ts';
import { bindUdp, closeFd, encodeSocketAddress } from '../linux/sockets.ts';

/**
 * open: it arrived; closed: it arrived, and the kernel there answered that nobody listens; timeout: silence; unreachable: it
 * could not be sent.
 */
export type DatagramOutcome = 'open' | 'closed' | 'timeout' | 'unreachable';

export interface DatagramProbe {
  readonly from: NetworkNamespace;
  /** The namespace that has the address. */
  readonly to: NetworkNamespace;
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
}

const MSG_DONTWAIT = 0x40;
const SO_ERROR = 4;
/** Said again so often within the time limit: datagrams may be lost for other reasons than policies. */
const repeats = 4;
/** "Port unreachable" comes at once or not at all, milliseconds. */
const answerMs = 10;

/** The receiver's own program gets the datagrams too, if there is one: a few bytes that begin with "podwire". */
export async function probeUdp({ from, to, address, port, timeoutMs }: DatagramProbe): Promise<DatagramOutcome> {
  const family = familyOf(address);
  const word = Buffer.concat([Buffer.from('podwire probe '), randomBytes(12)]);
  const { promise: arrived, resolve } = Promise.withResolvers<true>();
  using _ears = new DatagramEars(to, family, (payload) => payload.equals(word) && resolve(true));
  const fd = bindUdp({ ns: from, address: family === 4 ? '0.0.0.0' : '::', port: 0 });
  try {
    const target = encodeSocketAddress(address, port);
    if (libc.connect(fd, target, target.length) < 0) return 'unreachable';
    for (let i = 0; i < repeats; i++) {
      if (libc.send(fd, word, word.length, MSG_DONTWAIT) < 0 && !mayPass(lastErrno())) return 'unreachable';
      if (await Promise.race([arrived, sleep(timeoutMs / repeats, false as const)])) {
        await sleep(answerMs);
        return getSocketOption(fd, SOL_SOCKET, SO_ERROR) === ERRNO['ECONNREFUSED'] ? 'closed' : 'open';
      }
    }
    return 'timeout';
  } finally {
    closeFd(fd);
  }
}

/** Errors of sending that say nothing about the way: full buffers, or what an earlier datagram met. */
function mayPass(errno: number): boolean {
  return errno === ERRNO['EAGAIN'] || errno === ERRNO['ENOBUFS'] || errno === ERRNO['ECONNREFUSED'];
}
