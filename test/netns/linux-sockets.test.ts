import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { test } from 'node:test';
import { hasCode, isBusy } from '../../src/linux/errors.ts';
import { watchByTimer } from '../../src/linux/fd-watch.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { bindUdp, closeFd, connectTcp, connectTcpSync, listenTcp, socketAddress } from '../../src/linux/sockets.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();

for (const loopback of ['127.0.0.1', '::1']) {
  test(`TCP inside a namespace over ${loopback}, served and used by Node outside of it`, { skip }, async () => {
    const ns = make(`tcp${loopback.length}`);
    const listener = listenTcp({ ns, address: loopback, port: 0 });
    const { address, port } = socketAddress(listener);
    assert.equal(address, loopback);
    const server = createServer((socket) => socket.end(`you are ${socket.remoteAddress}`)).listen({ fd: listener });
    try {
      for (const connect of [connectTcp, connectTcpSync]) {
        const socket = new Socket({ fd: await connect({ ns, address: loopback, port }) });
        socket.setEncoding('utf8');
        let answer = '';
        for await (const chunk of socket) answer += chunk;
        assert.equal(answer, `you are ${loopback}`);
      }
      await assert.rejects(connectTcp({ address: loopback, port }), (error) => hasCode(error, 'ECONNREFUSED'));
    } finally {
      server.close();
    }
  });

  test(`UDP inside a namespace over ${loopback} with Node's dgram`, { skip }, async () => {
    const ns = make(`udp${loopback.length}`);
    const type = loopback.includes(':') ? 'udp6' : 'udp4';
    const serverFd = bindUdp({ ns, address: loopback, port: 5353 });
    const server = createSocket(type);
    const client = createSocket(type);
    try {
      server.bind({ fd: serverFd });
      client.bind({ fd: bindUdp({ ns, address: loopback, port: 0 }) });
      server.on('message', (message, from) => server.send(`pong ${message}`, from.port, from.address));
      const answer = once(client, 'message');
      client.send('ping', 5353, loopback);
      assert.equal(String((await answer)[0]), 'pong ping');
    } finally {
      server.close();
      client.close();
    }
  });
}

test('options: freebind, reusePort, an address that is taken', { skip }, () => {
  const ns = make('options');
  assert.throws(
    () => listenTcp({ ns, address: '192.0.2.1', port: 80 }),
    (error) => hasCode(error, 'EADDRNOTAVAIL'),
  );
  closeFd(listenTcp({ ns, address: '192.0.2.1', port: 80, freebind: true }));
  closeFd(bindUdp({ ns, address: '2001:db8::1', port: 53, freebind: true }));
  const first = listenTcp({ ns, address: '127.0.0.1', port: 80 });
  assert.throws(() => listenTcp({ ns, address: '127.0.0.1', port: 80 }), isBusy);
  const third = listenTcp({ ns, address: '::', port: 80 });
  closeFd(third);
  closeFd(first);
  const shared = [1, 2].map(() => bindUdp({ ns, address: '127.0.0.1', port: 53, reusePort: true }));
  shared.forEach(closeFd);
  const both = listenTcp({ ns, address: '::', port: 81, v6only: false });
  assert.throws(() => listenTcp({ ns, address: '0.0.0.0', port: 81 }), isBusy);
  closeFd(both);
  assert.throws(() => listenTcp({ ns, address: '127.0.0.1', port: 70000 }), RangeError);
  assert.throws(() => listenTcp({ ns, address: 'localhost', port: 80 }), TypeError);
});

test('a connect that nobody answers times out, without a route it fails at once', { skip }, async () => {
  const ns = make('silent');
  using links = Rtnetlink.open(ns);
  await assert.rejects(connectTcp({ ns, address: '192.0.2.9', port: 80 }), (error) => hasCode(error, 'ENETUNREACH'));
  links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
  links.addAddress({ device: 'v0', address: '192.0.2.1/24' });
  links.replaceNeighbour({ device: 'v0', address: '192.0.2.9', mac: '02:00:00:00:00:09' });
  const silent = { ns, address: '192.0.2.9', port: 80, timeoutMs: 30, source: '192.0.2.1' };
  await assert.rejects(connectTcp(silent), (error) => hasCode(error, 'ETIMEDOUT'));
  assert.throws(
    () => connectTcpSync(silent),
    (error) => hasCode(error, 'ETIMEDOUT'),
  );
});

test('watching by timer works as the event loop does', { skip }, async () => {
  const ns = make('timer');
  const fd = bindUdp({ ns, address: '127.0.0.1', port: 5000 });
  const sender = createSocket('udp4');
  sender.bind({ fd: bindUdp({ ns, address: '127.0.0.1', port: 0 }) });
  const seen = Promise.withResolvers<void>();
  const watch = watchByTimer(fd, 1, seen.resolve);
  sender.send('x', 5000, '127.0.0.1');
  await seen.promise;
  watch.close();
  sender.close();
  closeFd(fd);
});
