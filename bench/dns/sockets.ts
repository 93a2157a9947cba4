/**
 * Nothing but the sockets: answers questions for the names of names.ts from their bytes, by Node's dgram or by batches
 * (argument "dgram" or "batch"). Prints its port; ends with its standard input.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { ipToBytes } from '../../src/base/ip.ts';
import { bindUdp, socketAddress } from '../../src/linux/sockets.ts';
import { UdpBatchSocket } from '../../src/linux/udp-batch.ts';
import { addressOf, SERVICES } from './names.ts';

const addresses = Array.from({ length: SERVICES }, (_, i) => Buffer.from(ipToBytes(addressOf(i))));
/** An owner that points to the question, A, IN, 5 seconds, 4 bytes. */
const RECORD = Buffer.from('c00c00010001000000050004', 'hex');
const OPT_BYTES = 11;

/** Writes the answer to a question of loader.ts, the OPT record behind it; returns its length. */
function answer(packet: Buffer, length: number, out: Buffer): number {
  const question = length - OPT_BYTES;
  packet.copy(out, 0, 0, question);
  out[2] = 0x85;
  out[7] = 1;
  let index = 0;
  // "service-" and its number are the first label.
  for (let i = 13 + 8; i < 13 + packet[12]!; i++) index = index * 10 + packet[i]! - 0x30;
  RECORD.copy(out, question);
  addresses[index]!.copy(out, question + RECORD.length);
  return question + RECORD.length + 4 + packet.copy(out, question + RECORD.length + 4, question, length);
}

let port: number;
let close: () => void;
if (process.argv[2] === 'batch') {
  const fd = bindUdp({ address: '127.0.0.1', port: 0 });
  port = socketAddress(fd).port;
  const socket = new UdpBatchSocket(fd, answer);
  socket.setReceiveBuffer(4 << 20);
  close = () => socket.close();
} else {
  const socket = createSocket('udp4');
  socket.on('message', (packet, from) => {
    const out = Buffer.allocUnsafe(512);
    socket.send(out.subarray(0, answer(packet, packet.length, out)), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  socket.setRecvBufferSize(4 << 20);
  port = socket.address().port;
  close = () => socket.close();
}
process.stdout.write(`${port}\n`);
for await (const _ of process.stdin);
close();
