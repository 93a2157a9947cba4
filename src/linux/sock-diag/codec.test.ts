import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeMessages } from '../netlink/reader.ts';
import { MessageWriter } from '../netlink/writer.ts';
import { decodeTcpSocket, encodeDumpTcpSockets } from './codec.ts';

const TCPDIAG_GETSOCK = 18;

test('a dump asks for TCP sockets with their streams, in all states but TIME_WAIT and CLOSE', () => {
  const writer = new MessageWriter();
  encodeDumpTcpSockets(writer);
  const [message] = decodeMessages(writer.finish(1));
  assert.equal(message!.type, TCPDIAG_GETSOCK);
  assert.equal(message!.payload.length, 60, 'sizeof(struct inet_diag_req)');
  assert.deepEqual([...message!.payload.subarray(0, 4)], [0, 0, 0, 2]);
  assert.equal(message!.payload.readUInt32LE(52), 0xffe & ~(1 << 6) & ~(1 << 7));
});

test('a socket is decoded, with its stream where the kernel tells it', () => {
  const payload = Buffer.alloc(72 + 4 + 240);
  payload.set([2, 8]);
  payload.writeUInt16BE(80, 4);
  payload.writeUInt16BE(40_000, 6);
  payload.writeUInt32LE(3, 56);
  payload.writeUInt32LE(4, 60);
  payload.writeUInt16LE(4 + 240, 72);
  payload.writeUInt16LE(2, 74);
  const info = payload.subarray(76);
  info.writeUInt32LE(5, 44);
  info.writeUInt32LE(6, 52);
  info.writeBigUInt64LE(7n, 128);
  info.writeBigUInt64LE(8n, 200);
  const message = { type: TCPDIAG_GETSOCK, flags: 0, sequence: 1, payload };
  const socket = { state: 'CLOSE_WAIT', localPort: 80, remotePort: 40_000, receiveQueue: 3, sendQueue: 4 };
  const stream = { sinceSent: 5, sinceReceived: 6, bytesReceived: 7, bytesSent: 8 };
  assert.deepEqual(decodeTcpSocket(message), { ...socket, stream });
  assert.deepEqual(decodeTcpSocket({ ...message, payload: payload.subarray(0, 72) }), socket);
});

test('no bytes make the decoder throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      decodeTcpSocket({ type: TCPDIAG_GETSOCK, flags: 0, sequence: 1, payload: Buffer.from(bytes) });
    }),
  );
});
