/**
 * The rules of the mode ebpf in a process that can be killed: `node services-ebpf-agent.ts NAMESPACE OBJECT CGROUP`
 * serves 10.96.0.1:80 (TCP and UDP) by some of the pods b, c, far-a and far-b, ever others, and says so when it begins.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../../src/base/log.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { SocketRules } from '../../src/node/services/ebpf/reconciler.ts';
import { makeService, makeSlice } from '../../src/node/services/fixtures.ts';
import { buildService, type ServiceModel } from '../../src/node/services/model.ts';
import { nftablesRules } from '../../src/node/services/nftables/reconciler.ts';
import { ADDRESSES, NODE_ADDRESSES, PLACES } from './services-lab.ts';

const SERVICE = { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] };

/** The Service that this process, and the test before it, serve. */
export function servedBy(places: readonly (keyof typeof PLACES)[], extra: object = {}): ServiceModel {
  const ports = [
    { name: 'tcp', port: 8080, protocol: 'TCP' },
    { name: 'udp', port: 8080, protocol: 'UDP' },
  ];
  return buildService(
    makeService('svc', { ...SERVICE, ...extra, ports: ports.map((port) => ({ ...port, port: 80 })) }),
    [
      makeSlice(
        'svc',
        places.map((place) => ({ address: PLACES[place][0], node: 'n1' })),
        ports,
      ),
    ],
    { name: 'n1', nodePortAddresses: NODE_ADDRESSES },
  );
}

if (import.meta.main) {
  const [namespace, object, cgroup] = process.argv.slice(2) as [string, string, string];
  const nft = Nftables.open(NetworkNamespace.open(namespace));
  const rules = new SocketRules(
    { object, cgroup, packets: nftablesRules(nft) },
    { addresses: ADDRESSES, log: silentLogger },
  );
  const all = ['b', 'c', 'far-a', 'far-b'] as const;
  await rules.apply([['default/svc', servedBy(all)]]);
  process.stdout.write('ready\n');
  // It is killed in the middle of changes.
  for (let i = 0; ; i++) {
    await rules.apply([['default/svc', servedBy(all.filter((_, n) => n !== i % 5))]]);
    await sleep(1);
  }
}
