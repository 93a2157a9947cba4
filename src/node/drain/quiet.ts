/**
 * Whether a pod has done what it was asked to, from the outside: what its TCP sockets say. Pure.
 *
 * A request in flight is one of
 *   - a handshake that is going on, or a connection that the server has not accepted, or has accepted and heard nothing of yet
 *   - bytes that the server has not read
 *   - bytes that it received after it last sent any: read, and not answered
 *   - bytes of an answer that the client has not acknowledged: they would be lost with the pod's interface
 *
 * An idle connection that is kept open is none, however many there are.
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
  const listeners = sockets.filter(({ state }) => state === 'LISTEN');
  const served = new Set(listeners.map(({ localPort }) => localPort));
  return [
    ...listeners.filter(({ receiveQueue }) => receiveQueue > 0),
    ...sockets.filter((socket) => served.has(socket.localPort) && isInFlight(socket)),
  ];
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
