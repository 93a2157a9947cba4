/** Frames between two namespaces over a veth pair. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { hasCode, isNotFound } from '../../src/linux/errors.ts';
import { Ipv6Groups } from '../../src/linux/ipv6-groups.ts';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { PacketSocket } from '../../src/linux/packet-socket.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();
const PROTOCOL = 0x88b5;
const MULTICAST = '03:00:00:00:00:07';

function pair(name: string) {
  const a = make(`${name}a`);
  const b = make(`${name}b`);
  using netlink = Rtnetlink.open(a);
  netlink.createVeth({ name: 'left', up: true, peer: { name: 'right', netns: b, up: true } });
  const end = (ns: NetworkNamespace, device: string) => {
    using inside = Rtnetlink.open(ns);
    const { ifindex, mac } = inside.link(device)!;
    return { ns, ifindex, mac: mac! };
  };
  return { a: end(a, 'left'), b: end(b, 'right') };
}

function frame(to: string, from: string, text: string, protocol = PROTOCOL): Buffer {
  const bytes = Buffer.alloc(60);
  bytes.write(to.replaceAll(':', ''), 'hex');
  bytes.write(from.replaceAll(':', ''), 6, 'hex');
  bytes.writeUInt16BE(protocol, 12);
  bytes.write(text, 14);
  return bytes;
}

/** The texts of the frames that come; `until` resolves when there are so many. */
function collect(socket: PacketSocket) {
  const texts: string[] = [];
  let told = () => {};
  socket.receive((bytes) => {
    texts.push(bytes.toString('latin1', 14).replaceAll('\0', ''));
    told();
  });
  const until = (count: number) =>
    new Promise<void>((resolve) => {
      told = () => texts.length >= count && resolve();
      told();
    });
  return { texts, until };
}

test('frames of the protocol arrive whole, one after the other, others do not', { skip }, async () => {
  const { a, b } = pair('p');
  using sender = PacketSocket.open({ ns: a.ns, ifindex: a.ifindex, protocol: PROTOCOL });
  using receiver = PacketSocket.open({ ns: b.ns, ifindex: b.ifindex, protocol: PROTOCOL });
  const seen = collect(receiver);
  const own = collect(sender);
  sender.send(frame(b.mac, a.mac, 'another protocol', 0x88b6));
  for (let i = 0; i < 100; i++) sender.send(frame(b.mac, a.mac, `frame ${i}`));
  await seen.until(100);
  assert.deepEqual(
    seen.texts,
    Array.from({ length: 100 }, (_, i) => `frame ${i}`),
  );
  assert.deepEqual(own.texts, [], 'what is sent here is not seen here');
});

test('a filter chooses in the kernel', { skip }, async () => {
  const { a, b } = pair('f');
  // Load the first byte after the header; take the frame when it is "y".
  const filter = [
    [0x30, 0, 0, 14],
    [0x15, 0, 1, 'y'.charCodeAt(0)],
    [0x06, 0, 0, 0xffff],
    [0x06, 0, 0, 0],
  ] as const;
  using sender = PacketSocket.open({ ns: a.ns, ifindex: a.ifindex, protocol: PROTOCOL });
  using receiver = PacketSocket.open({ ns: b.ns, ifindex: b.ifindex, protocol: PROTOCOL, filter });
  const seen = collect(receiver);
  for (const text of ['no', 'yes', 'never', 'yet']) sender.send(frame(b.mac, a.mac, text));
  await seen.until(2);
  assert.deepEqual(seen.texts, ['yes', 'yet']);
});

test('multicast: joined and left', { skip }, () => {
  const { a } = pair('m');
  using socket = PacketSocket.open({ ns: a.ns, ifindex: a.ifindex, protocol: PROTOCOL });
  socket.joinMulticast(MULTICAST);
  socket.joinMulticast(MULTICAST);
  socket.leaveMulticast(MULTICAST);
  socket.leaveMulticast(MULTICAST);
  assert.throws(() => socket.leaveMulticast('zz'), /MAC/i);
});

test('what is wrong says so', { skip }, async () => {
  const { a } = pair('e');
  assert.throws(() => PacketSocket.open({ ns: a.ns, ifindex: 9999, protocol: PROTOCOL }), isNotFound);
  const socket = PacketSocket.open({ ns: a.ns, ifindex: a.ifindex, protocol: PROTOCOL });
  const failed = Promise.withResolvers<unknown>();
  socket.receive(() => {}, failed.resolve);
  using netlink = Rtnetlink.open(a.ns);
  netlink.setLink('left', { up: false });
  assert.ok(hasCode(await failed.promise, 'ENETDOWN'));
  assert.throws(
    () => socket.send(frame('ff:ff:ff:ff:ff:ff', a.mac, 'x')),
    (error) => hasCode(error, 'ENETDOWN', 'ENXIO'),
  );
  socket.close();
  socket.close();
  assert.throws(() => socket.send(frame(a.mac, a.mac, 'x')), /closed/);
});

test('IPv6 groups are joined in the kernel, and left', { skip }, () => {
  const { a } = pair('g');
  const group = 'ff02::1:ff00:1234';
  const joined = () =>
    a.ns.run(() => readFileSync('/proc/thread-self/net/igmp6', 'utf8')).includes('ff0200000000000000000001ff001234');
  using groups = Ipv6Groups.open({ ns: a.ns, ifindex: a.ifindex });
  groups.join(group);
  groups.join(group);
  assert.ok(joined());
  groups.leave(group);
  groups.leave(group);
  assert.ok(!joined());
  groups.join(group);
  groups.close();
  assert.ok(!joined());
});
