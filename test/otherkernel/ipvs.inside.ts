/** IPVS: its codec against ipvsadm, and the mode ipvs against packets in the suites of the other modes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { parseIp } from '../../src/base/ip.ts';
import { Ipvs } from '../../src/linux/ipvs.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { ipvsMode } from '../netns/services-modes.ts';
import { testOracle } from '../netns/services-oracle.ts';
import { describePackets } from '../netns/services-packets.ts';

describePackets(ipvsMode);
testOracle(ipvsMode, 3);

test('what the codec writes is what ipvsadm reads', () => {
  using ns = NetworkNamespace.anonymous();
  using ipvs = Ipvs.open(ns);
  const web = { family: 4, protocol: 'tcp', address: parseIp('10.96.0.10'), port: 80 } as const;
  const dns = { family: 6, protocol: 'udp', address: parseIp('fd00:10:96::a'), port: 53 } as const;
  ipvs.change([
    { op: 'newService', service: { ...web, scheduler: 'rr', persistenceSeconds: 300 } },
    { op: 'newService', service: { ...dns, scheduler: 'rr', persistenceSeconds: undefined } },
    { op: 'newService', service: { family: 4, fwmark: 7, scheduler: 'mh', persistenceSeconds: undefined } },
    { op: 'newDestination', service: web, server: { address: parseIp('10.244.0.2'), port: 8080, weight: 1 } },
    { op: 'newDestination', service: dns, server: { address: parseIp('fd00:10:244::2'), port: 5353, weight: 1 } },
    { op: 'setDestination', service: dns, server: { address: parseIp('fd00:10:244::2'), port: 5353, weight: 0 } },
  ]);
  const saved = ns.run(() => execFileSync('ipvsadm', ['-S', '-n']).toString());
  assert.deepEqual(saved.trim().split('\n').sort(), [
    '-A -f 7 -s mh',
    '-A -t 10.96.0.10:80 -s rr -p 300',
    '-A -u [fd00:10:96::a]:53 -s rr',
    '-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1',
    '-a -u [fd00:10:96::a]:53 -r [fd00:10:244::2]:5353 -m -w 0',
  ]);
  assert.throws(() => ipvs.change([{ op: 'deleteService', service: { ...web, port: 81 } }]), { code: 'ESRCH' });
  ipvs.flush();
  assert.deepEqual(ipvs.services(), []);
});
