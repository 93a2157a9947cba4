/** One connection attempt from inside a namespace, and what became of it. */
import { familyOf } from '../base/ip.ts';
import { hasCode, KernelError } from '../linux/errors.ts';
import type { NetworkNamespace } from '../linux/netns.ts';
import { closeFd, connectTcp, socketAddress } from '../linux/sockets.ts';

export type ConnectResult =
  | { readonly outcome: 'connected'; readonly source: string; readonly milliseconds: number }
  /** refused: a reset or "port unreachable" came back; unreachable: no route or a prohibition; timeout: silence. */
  | { readonly outcome: 'refused' | 'unreachable' | 'timeout'; readonly milliseconds: number };

/** Opens one TCP connection and closes it again. Never throws for what the network answers. */
export async function probeTcp(
  namespace: NetworkNamespace,
  address: string,
  port: number,
  timeoutMs: number,
): Promise<ConnectResult> {
  familyOf(address);
  const start = performance.now();
  const milliseconds = () => Math.round((performance.now() - start) * 100) / 100;
  try {
    const fd = await connectTcp({ ns: namespace, address, port, timeoutMs });
    try {
      return { outcome: 'connected', source: localAddress(fd), milliseconds: milliseconds() };
    } finally {
      closeFd(fd);
    }
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const outcome = hasCode(error, 'ECONNREFUSED')
      ? 'refused'
      : hasCode(error, 'ETIMEDOUT')
        ? 'timeout'
        : 'unreachable';
    return { outcome, milliseconds: milliseconds() };
  }
}

function localAddress(fd: number): string {
  return socketAddress(fd).address;
}
