/**
 * Whether a pod has done what it was asked to, from the outside: what its TCP sockets say. Pure.
 *
 * A request in flight is one of
 *   - a handshake that is going on, or a connection that the server has not accepted, or has accepted and heard nothing of yet
 *   - bytes that the server has not read
 *   - bytes that it received after it last sent any: read, and not answered
 *   - bytes of an answer that the client has not acknowledged: they would be lost with the pod's interface
 *
 * An idle connection that is kept open is none, however many there are. An answer that comes in parts looks idle between two of
 * them: therefore a pod is quiet only when nothing moved from one look to the next, several times in a row.
 */
import type { TcpSocket, TcpState } from '../../linux/sock-diag.ts';

/** So long a connection may be silent after it was opened before it counts as idle, in milliseconds. */
const FIRST_WORD_MS = 1_000;
/** The kernel's times are as coarse as its ticks: in one tick a question may have come before the answer or after it. */
const DOUBT_MS = 100;

const OPEN: ReadonlySet<TcpState> = new Set(['ESTABLISHED', 'CLOSE_WAIT']);
const HALF_OPEN: ReadonlySet<TcpState> = new Set(['SYN_RECV']);
/** The server has closed; what it sent before is still on its way. */
const CLOSED: ReadonlySet<TcpState> = new Set(['FIN_WAIT1', 'LAST_ACK', 'CLOSING']);

/** The connections, among a pod's sockets, that wait for something which the pod has to do. */
export function requestsInFlight(sockets: readonly TcpSocket[]): readonly TcpSocket[] {
  const waiting = sockets.filter(({ state, receiveQueue }) => state === 'LISTEN' && receiveQueue > 0);
  return [...waiting, ...served(sockets).filter(isInFlight)];
}

/** Differs from the last time when a connection that the pod serves began, ended, or carried anything since. */
export function trafficOf(sockets: readonly TcpSocket[]): string {
  const all = served(sockets).map(({ state, localPort, remotePort, stream }) =>
    [state, localPort, remotePort, stream?.bytesReceived, stream?.bytesSent].join(' '),
  );
  return all.sort().join();
}

/** The connections to ports that the pod listens on. */
function served(sockets: readonly TcpSocket[]): readonly TcpSocket[] {
  const ports = new Set(sockets.flatMap(({ state, localPort }) => (state === 'LISTEN' ? localPort : [])));
  return sockets.filter(({ state, localPort }) => state !== 'LISTEN' && ports.has(localPort));
}

function isInFlight({ state, receiveQueue, sendQueue, stream }: TcpSocket): boolean {
  if (HALF_OPEN.has(state)) return true;
  if (CLOSED.has(state)) return sendQueue > 0;
  if (!OPEN.has(state)) return false;
  if (receiveQueue > 0 || sendQueue > 0) return true;
  if (!stream) return false;
  const { bytesReceived, bytesSent, sinceReceived, sinceSent } = stream;
  if (bytesReceived === 0) return bytesSent === 0 && sinceReceived < FIRST_WORD_MS;
  if (sinceReceived === sinceSent) return bytesSent === 0 || sinceReceived < DOUBT_MS;
  return sinceReceived < sinceSent;
}
