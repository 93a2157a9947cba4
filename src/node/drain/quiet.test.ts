import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TcpSocket, TcpStream } from '../../linux/sock-diag.ts';
import { requestsInFlight, trafficOf } from './quiet.ts';

const listener: TcpSocket = { state: 'LISTEN', localPort: 80, remotePort: 0, receiveQueue: 0, sendQueue: 511 };
const idle: TcpStream = { bytesReceived: 10, bytesSent: 20, sinceReceived: 5_001, sinceSent: 5_000 };
const served = (rest: Partial<TcpSocket> = {}, stream: Partial<TcpStream> = {}): TcpSocket => ({
  state: 'ESTABLISHED',
  localPort: 80,
  remotePort: 40_000,
  receiveQueue: 0,
  sendQueue: 0,
  stream: { ...idle, ...stream },
  ...rest,
});

const CASES: readonly (readonly [string, TcpSocket, boolean])[] = [
  ['an idle connection that is kept open', served(), false],
  ['a connection that is not accepted', { ...listener, receiveQueue: 1 }, true],
  ['a handshake that is going on', served({ state: 'SYN_RECV' }), true],
  ['bytes that are not read', served({ receiveQueue: 1 }), true],
  ['an answer that is not acknowledged', served({ sendQueue: 1 }), true],
  ['an answer that is not acknowledged, closed', served({ state: 'FIN_WAIT1', sendQueue: 1 }), true],
  ['a close that is not acknowledged', served({ state: 'FIN_WAIT1' }), false],
  ['the last answer to a client that has closed', served({ state: 'LAST_ACK', sendQueue: 1 }), true],
  ['both have closed', served({ state: 'FIN_WAIT2' }), false],
  ['a request that is read and not answered', served({}, { sinceReceived: 300, sinceSent: 900 }), true],
  ['the same of a client that has closed its side', served({ state: 'CLOSE_WAIT' }, { sinceReceived: 3 }), true],
  ['an answered request of a client that has closed its side', served({ state: 'CLOSE_WAIT' }), false],
  ['a request right at the beginning, not answered', served({}, { bytesSent: 0, sinceSent: 5_001 }), true],
  ['opened just now, nothing said', served({}, { bytesReceived: 0, bytesSent: 0, sinceReceived: 999 }), true],
  ['opened a while ago, nothing said', served({}, { bytesReceived: 0, bytesSent: 0, sinceReceived: 1_000 }), false],
  ['a greeting that the client has not replied to', served({}, { bytesReceived: 0, sinceReceived: 10 }), false],
  ['question and answer in one tick, lately', served({}, { sinceReceived: 99, sinceSent: 99 }), true],
  ['question and answer in one tick, a while ago', served({}, { sinceReceived: 100, sinceSent: 100 }), false],
  ['a connection that the pod itself opened', served({ localPort: 50_000, receiveQueue: 5 }), false],
];

for (const [what, socket, expected] of CASES) {
  test(`${what}: ${expected ? 'in flight' : 'quiet'}`, () => {
    const others = socket.state === 'LISTEN' ? [] : [listener];
    assert.deepEqual(requestsInFlight([...others, served(), socket]), expected ? [socket] : []);
  });
}

test('traffic: connections that begin, end, or carry something; those that the pod opened itself do not matter', () => {
  const quiet = trafficOf([listener, served(), served({ remotePort: 40_001 })]);
  assert.equal(trafficOf([served({ remotePort: 40_001 }, { sinceReceived: 1 }), served(), listener]), quiet);
  assert.equal(trafficOf([listener, served(), served({ remotePort: 40_001 }), served({ localPort: 50_000 })]), quiet);
  for (const other of [
    [listener, served()],
    [listener, served(), served({ remotePort: 40_001 }), served({ remotePort: 40_002 })],
    [listener, served(), served({ remotePort: 40_001 }, { bytesSent: 21 })],
    [listener, served(), served({ remotePort: 40_001 }, { bytesReceived: 11 })],
    [listener, served(), served({ remotePort: 40_001, state: 'CLOSE_WAIT' })],
  ]) {
    assert.notEqual(trafficOf(other), quiet);
  }
});

test('a pod that does not listen any more decides for itself', () => {
  assert.deepEqual(requestsInFlight([served({ receiveQueue: 9 })]), []);
});
