import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIp, type IpAddress, parseIp } from '../../../base/ip.ts';
import { arpAnnouncements, arpQuestion, arpReply, decodeArp, encodeArp, isArpAnnouncement } from './arp.ts';
import { clusterTag, decodeBeat, encodeBeat } from './beat.ts';
import { readMac } from './ethernet.ts';
import {
  checksum,
  decodeNeighbourMessage,
  neighbourAnnouncement,
  neighbourQuestion,
  neighbourReply,
  solicitedNodeGroup,
} from './ndp.ts';

const bytes = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const MAC = '0a:00:00:00:00:01';
const ipv4 = fc.nat(0xffffffff).map((value) => formatIp(4, BigInt(value)));
const ipv6 = fc.bigInt({ min: 0x2000n << 112n, max: (0x3fffn << 112n) - 1n }).map((value) => formatIp(6, value));
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map((value) => readMac(Buffer.from(value), 0));

/** "Who has 172.18.200.7, tell 172.18.234.96", as RFC 826 lays it out. */
const ARP_REQUEST = bytes(`ffffffffffff 0eaabbccdd01 0806
  0001 0800 06 04 0001 0eaabbccdd01 ac12ea60 000000000000 ac12c807`);
/** A solicitation for fd00:18::c8:7 from fd00:18::ea60, as RFC 4861 lays it out. */
const SOLICITATION = bytes(`3333ffc80007 0eaabbccdd01 86dd
  60000000 0020 3a ff fd00001800000000000000000000ea60 ff0200000000000000000001ffc80007
  87 00 0000 00000000 fd0000180000000000000000 00c80007 01 01 0eaabbccdd01`);
SOLICITATION.writeUInt16BE(checksum(SOLICITATION.subarray(14)), 14 + 40 + 2);

test('an ARP request is read and answered', () => {
  const request = decodeArp(ARP_REQUEST)!;
  assert.deepEqual(request, {
    operation: 'request',
    senderMac: '0e:aa:bb:cc:dd:01',
    sender: '172.18.234.96',
    targetMac: '00:00:00:00:00:00',
    target: '172.18.200.7',
  });
  assert.equal(isArpAnnouncement(request), false);
  const expected = bytes(`0eaabbccdd01 0a0000000001 0806
    0001 0800 06 04 0002 0a0000000001 ac12c807 0eaabbccdd01 ac12ea60`);
  assert.deepEqual(arpReply(request, MAC), expected);
});

test('an ARP announcement goes to all, as request and as reply', () => {
  const frames = arpAnnouncements(parseIp('172.18.200.7'), MAC);
  for (const frame of frames) {
    assert.equal(readMac(frame, 0), 'ff:ff:ff:ff:ff:ff');
    assert.ok(isArpAnnouncement(decodeArp(frame)!));
  }
  assert.deepEqual(
    frames.map((frame) => decodeArp(frame)!.operation),
    ['request', 'reply'],
  );
});

test('a solicitation is read and answered to the one who asks', () => {
  const solicitation = decodeNeighbourMessage(SOLICITATION)!;
  assert.deepEqual(solicitation, {
    type: 'solicitation',
    senderMac: '0e:aa:bb:cc:dd:01',
    sender: 'fd00:18::ea60',
    target: 'fd00:18::c8:7',
  });
  const reply = neighbourReply(solicitation, MAC);
  assert.equal(readMac(reply, 0), '0e:aa:bb:cc:dd:01');
  assert.equal(checksum(reply.subarray(14)), 0);
  assert.equal(reply.readUInt32BE(14 + 40 + 4), 0x60000000, 'solicited, override');
  assert.deepEqual(decodeNeighbourMessage(reply), {
    type: 'advertisement',
    senderMac: MAC,
    sender: 'fd00:18::c8:7',
    target: 'fd00:18::c8:7',
  });
});

test('answers for another node name its MAC, in frames of one’s own', () => {
  const other = '0a:00:00:00:00:02';
  const reply = arpReply(decodeArp(ARP_REQUEST)!, other, MAC);
  assert.equal(readMac(reply, 6), MAC);
  assert.equal(decodeArp(reply)!.senderMac, other);
  const advertisement = neighbourReply(decodeNeighbourMessage(SOLICITATION)!, other, MAC);
  assert.equal(readMac(advertisement, 6), MAC);
  assert.deepEqual(
    advertisement.subarray(-8),
    bytes(`02 01 ${other.replaceAll(':', '')}`),
    'target link-layer address',
  );
});

test('a neighbour is asked alone', () => {
  const question = arpQuestion(parseIp('172.18.0.2'), '0a:00:00:00:00:02', parseIp('172.18.0.1'), MAC);
  const expected = bytes(`0a0000000002 0a0000000001 0806
    0001 0800 06 04 0001 0a0000000001 ac120001 000000000000 ac120002`);
  assert.deepEqual(question, expected);
  const solicitation = neighbourQuestion(parseIp('fd00:18::2'), '0a:00:00:00:00:02', parseIp('fd00:18::1'), MAC);
  assert.equal(readMac(solicitation, 0), '0a:00:00:00:00:02');
  assert.deepEqual(decodeNeighbourMessage(solicitation), {
    type: 'solicitation',
    senderMac: MAC,
    sender: 'fd00:18::1',
    target: 'fd00:18::2',
  });
  assert.deepEqual(solicitation.subarray(-8), bytes(`01 01 ${MAC.replaceAll(':', '')}`), 'source link-layer address');
});

test('who has no address yet is answered through all nodes', () => {
  const probe = Buffer.from(SOLICITATION);
  probe.fill(0, 14 + 8, 14 + 24);
  probe.writeUInt16BE(0, 14 + 40 + 2);
  probe.writeUInt16BE(checksum(probe.subarray(14)), 14 + 40 + 2);
  const reply = neighbourReply(decodeNeighbourMessage(probe)!, MAC);
  assert.equal(readMac(reply, 0), '33:33:00:00:00:01');
  assert.deepEqual(reply, neighbourAnnouncement(parseIp('fd00:18::c8:7'), MAC));
});

test('a solicitation that came through a router, or is damaged, is nothing', () => {
  const damaged = (offset: number, value: number) => {
    const copy = Buffer.from(SOLICITATION);
    copy.writeUInt8(value, offset);
    return decodeNeighbourMessage(copy);
  };
  assert.equal(damaged(14 + 7, 254), undefined, 'hop limit');
  assert.equal(damaged(14 + 40 + 1, 1), undefined, 'code');
  assert.equal(damaged(14 + 40 + 20, 7), undefined, 'checksum');
  assert.equal(damaged(14 + 5, 200), undefined, 'longer than the frame');
  assert.equal(damaged(14 + 40, 133), undefined, 'another message');
});

test('solicited-node groups', () => {
  assert.equal(solicitedNodeGroup(parseIp('fd00:18::c8:7')), 'ff02::1:ffc8:7');
  assert.equal(solicitedNodeGroup(parseIp('2001:db8::12ab:cdef')), 'ff02::1:ffab:cdef');
});

test('codecs come back as they went', () => {
  fc.assert(
    fc.property(ipv4, ipv4, mac, mac, (sender, target, senderMac, targetMac) => {
      const packet = { operation: 'reply' as const, senderMac, sender, targetMac, target };
      assert.deepEqual(decodeArp(encodeArp(targetMac, packet)), packet);
    }),
  );
  fc.assert(
    fc.property(ipv6, mac, (address: IpAddress, from) => {
      const message = decodeNeighbourMessage(neighbourAnnouncement(address, from));
      assert.deepEqual([message?.target, message?.senderMac], [address, from]);
    }),
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z0-9.-]{1,253}$/), fc.boolean(), (node, active) => {
      const beat = { cluster: clusterTag(node), node, active };
      assert.deepEqual(decodeBeat(encodeBeat(beat, MAC)), { ...beat, mac: MAC });
    }),
  );
});

test('no frame makes a decoder throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (noise) => {
      for (const start of [[], [...SOLICITATION.subarray(0, 60)], [...ARP_REQUEST.subarray(0, 22)]]) {
        const frame = Buffer.from([...start, ...noise]);
        decodeArp(frame);
        decodeNeighbourMessage(frame);
        decodeBeat(frame);
      }
    }),
  );
});
