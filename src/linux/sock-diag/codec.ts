/** TCP sockets: sock_diag messages (linux/sock_diag.h, linux/inet_diag.h, linux/tcp.h) to and from objects. Pure. */
import { Attributes, type NetlinkMessage } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_DUMP } from '../netlink/writer.ts';

/** The request from before SOCK_DIAG_BY_FAMILY: it alone gives both families in one walk over the kernel's table. */
const TCPDIAG_GETSOCK = 18;
const AF_UNSPEC = 0;
const INET_DIAG_INFO = 2;
/** sizeof(struct inet_diag_sockid), sizeof(struct inet_diag_msg). */
const SOCKET_ID_SIZE = 48;
const MESSAGE_SIZE = 72;

// Offsets in struct inet_diag_msg
const STATE = 1;
const SOURCE_PORT = 4;
const DESTINATION_PORT = 6;
const RECEIVE_QUEUE = 56;
const SEND_QUEUE = 60;
// Offsets in struct tcp_info
const LAST_DATA_SENT = 44;
const LAST_DATA_RECEIVED = 52;
const BYTES_RECEIVED = 128;
const BYTES_SENT = 200;
const STREAM_SIZE = 208;

/** By the kernel's numbers, from 1 (net/tcp_states.h); a handshake's half-open socket is SYN_RECV. */
const STATES = [
  'ESTABLISHED',
  'SYN_SENT',
  'SYN_RECV',
  'FIN_WAIT1',
  'FIN_WAIT2',
  'TIME_WAIT',
  'CLOSE',
  'CLOSE_WAIT',
  'LAST_ACK',
  'LISTEN',
  'CLOSING',
] as const;

export type TcpState = (typeof STATES)[number];

export interface TcpSocket {
  readonly state: TcpState;
  readonly localPort: number;
  readonly remotePort: number;
  /** Bytes that the program has not read; of a listener the connections that it has not accepted. */
  readonly receiveQueue: number;
  /** Bytes that the other side has not acknowledged; of a listener its backlog. */
  readonly sendQueue: number;
  /** What the kernel knows of the stream; absent while a handshake is going on. */
  readonly stream?: TcpStream;
}

export interface TcpStream {
  /** Milliseconds since data was last sent and received; since the connection's beginning where there was none. */
  readonly sinceSent: number;
  readonly sinceReceived: number;
  /** Payload bytes so far; what is sent again counts again. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** Asks for the namespace's sockets of both families, in every state but TIME_WAIT and CLOSE (struct inet_diag_req). */
export function encodeDumpTcpSockets(writer: MessageWriter): void {
  let states = 0;
  for (const [i, state] of STATES.entries()) if (state !== 'TIME_WAIT' && state !== 'CLOSE') states |= 1 << (i + 1);
  writer.message(TCPDIAG_GETSOCK, NLM_F_DUMP);
  const extensions = 1 << (INET_DIAG_INFO - 1);
  writer.u8(AF_UNSPEC).u8(0).u8(0).u8(extensions).bytes(Buffer.alloc(SOCKET_ID_SIZE)).u32(states).u32(0);
}

/** Undefined for what is no socket in a state that is known. */
export function decodeTcpSocket({ type, payload }: NetlinkMessage): TcpSocket | undefined {
  if (type !== TCPDIAG_GETSOCK || payload.length < MESSAGE_SIZE) return undefined;
  const state = STATES[payload.readUInt8(STATE) - 1];
  if (!state) return undefined;
  const info = new Attributes(payload, MESSAGE_SIZE).bytes(INET_DIAG_INFO);
  return {
    state,
    localPort: payload.readUInt16BE(SOURCE_PORT),
    remotePort: payload.readUInt16BE(DESTINATION_PORT),
    receiveQueue: payload.readUInt32LE(RECEIVE_QUEUE),
    sendQueue: payload.readUInt32LE(SEND_QUEUE),
    ...(info && info.length >= STREAM_SIZE ? { stream: decodeStream(info) } : {}),
  };
}

function decodeStream(info: Buffer): TcpStream {
  return {
    sinceSent: info.readUInt32LE(LAST_DATA_SENT),
    sinceReceived: info.readUInt32LE(LAST_DATA_RECEIVED),
    bytesSent: Number(info.readBigUInt64LE(BYTES_SENT)),
    bytesReceived: Number(info.readBigUInt64LE(BYTES_RECEIVED)),
  };
}
