/**
 * podwire's DNS as a process of its own, over a FakeClient with all Services of names.ts. Prints its port when it answers;
 * ends with its standard input. The argument is how often a second one of the Services changes.
 */
import { silentLogger } from '../../src/base/log.ts';
import type { ListOptions, ObjectList } from '../../src/kube/client.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import type { KindMap, KindName } from '../../src/kube/types.ts';
import { DnsController } from '../../src/node/dns/controller.ts';
import { endpointSlice, namespaces, placeOf, SERVICES, service, stored } from './names.ts';

/** Lists all objects of names.ts as an API server would, from text, and keeps none of them: what is measured is the DNS. */
class ListingClient extends FakeClient {
  override async list<K extends KindName>(kind: K, options?: ListOptions): Promise<ObjectList<KindMap[K]>> {
    const own = await super.list(kind, options);
    const make = kind === 'Service' ? service : kind === 'EndpointSlice' ? endpointSlice : undefined;
    if (!make) return own;
    const others = Array.from({ length: SERVICES - 1 }, (_, i) =>
      JSON.parse(JSON.stringify(stored(make(i + 1), i + 1))),
    );
    return { ...own, items: [...own.items, ...others] };
  }
}

const client = new ListingClient();
await client.create('Node', { metadata: { name: 'node-1' }, spec: {} });
for (const name of namespaces) await client.create('Namespace', { metadata: { name } });
await client.create('Service', service(0));
await client.create('EndpointSlice', endpointSlice(0));
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
  nodeAddresses: ['127.0.0.1'],
  dnsAddresses: ['10.96.0.10'],
  domain: 'cluster.local',
  podCidrs: ['10.244.0.0/16'],
  serviceCidrs: ['10.96.0.0/12'],
  log,
  port: 0,
});
await dns.start(abort.signal);
await Promise.all(Object.values(informers).map((informer) => informer.start(abort.signal)));

const changesPerSecond = Number(process.argv[2] ?? 0);
let changes = 0;
const changing =
  changesPerSecond > 0
    ? setInterval(() => {
        void client.patch('Service', placeOf(0), { metadata: { labels: { change: String(++changes) } } });
      }, 1000 / changesPerSecond)
    : undefined;

process.stdout.write(`${dns.port}\n`);
for await (const _ of process.stdin);
clearInterval(changing);
abort.abort();
