/**
 * A DNS server of its own process, for tests inside a namespace: the real controller over a FakeClient. The argument is JSON
 * (DnsServerOptions); it prints "ready" when it answers, and ends with its standard input.
 */
import { silentLogger } from '../../src/base/log.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import type { Draft, EndpointSlice, Pod, Service } from '../../src/kube/types.ts';
import { DnsController } from '../../src/node/dns/controller.ts';

export interface DnsServerOptions {
  readonly addresses: readonly string[];
  readonly namespaces: readonly string[];
  readonly services: readonly Draft<Service>[];
  readonly slices: readonly Draft<EndpointSlice>[];
  readonly pods: readonly Draft<Pod>[];
}

const { addresses, namespaces, services, slices, pods } = JSON.parse(process.argv[2]!) as DnsServerOptions;

const client = new FakeClient();
await client.create('Node', { metadata: { name: 'node-1' }, spec: {} });
for (const name of namespaces) await client.create('Namespace', { metadata: { name } });
for (const one of services) await client.create('Service', one);
for (const one of slices) await client.create('EndpointSlice', one);
for (const one of pods) await client.create('Pod', one);

const log = silentLogger;
const informers = {
  services: new Informer('Service', { client, log }),
  slices: new Informer('EndpointSlice', { client, log }),
  namespaces: new Informer('Namespace', { client, log }),
  pods: new Informer('Pod', { client, log }),
};
const abort = new AbortController();
const dns = new DnsController({
  client,
  informers,
  nodeName: 'node-1',
  nodeAddresses: addresses,
  dnsAddresses: addresses,
  domain: 'cluster.local',
  podCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'],
  serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'],
  log,
});
await dns.start(abort.signal);
await Promise.all(Object.values(informers).map((informer) => informer.start(abort.signal)));
process.stdout.write('ready\n');
for await (const line of process.stdin) {
  if (String(line).includes('metrics')) process.stdout.write(`${JSON.stringify(dns.metrics)}\n`);
}
abort.abort();
