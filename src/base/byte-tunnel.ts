/**
 * Joins two byte streams: what one side sends, the other receives, unchanged, in both directions, with back-pressure.
 * For connections that were upgraded (RFC 9110 section 7.8) and are none of our business any more.
 */
import type { Duplex } from 'node:stream';

/**
 * How long the side that is left may take to close after everything was handed to the kernel for it, in milliseconds.
 * Long, since its reader may be a person at a pager, and short enough that dead peers do not pile up.
 */
const LINGER_MS = 300_000;

export interface TunnelOptions {
  readonly lingerMs?: number;
  /** Told the errors of either side (resets, broken pipes): a tunnel has nobody else to tell. */
  readonly onError?: (error: Error) => void;
}

/**
 * Resolves when both sides have closed; never rejects. The end of one direction (a half close) ends the same direction on
 * the other side; who uses it for upgraded connections relies on the server to close then. What was received before a side ended or broke is still delivered
 * to the other one. Closing lingers: a socket that is closed while the peer still sends resets the connection, and a reset
 * destroys bytes that the peer has not read yet (RFC 1122 section 4.2.2.13).
 */
export async function joinByteStreams(a: Duplex, b: Duplex, options: TunnelOptions = {}): Promise<void> {
  await Promise.all([pump(a, b, options), pump(b, a, options)]);
}

function pump(from: Duplex, to: Duplex, { lingerMs = LINGER_MS, onError }: TunnelOptions): Promise<void> {
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    const onClose = () => {
      clearTimeout(timer);
      resolve();
    };
    const closeOther = () => {
      if (to.destroyed) return;
      to.end();
      to.resume();
      if (to.writableFinished) linger();
      else to.once('finish', linger);
    };
    const linger = () => {
      timer = setTimeout(() => to.destroy(), lingerMs);
      timer.unref();
    };
    from.on('error', (error: Error) => onError?.(error));
    to.once('close', onClose);
    if (to.destroyed) onClose();
    if (from.destroyed) closeOther();
    else {
      from.once('close', closeOther);
      from.pipe(to);
    }
  });
}
