/**
 * What the agent's share in Services takes, in a process and a network namespace of its own:
 *
 *     node memory.ts write FOLDER SERVICES ENDPOINTS     the objects, as pages of JSON
 *     node memory.ts measure FOLDER                      prints { rss, heapUsed, peak, loadMs, changeMs }: bytes, milliseconds
 *
 * The second holds everything that an agent holds for them: informers with objects as a real API server sends them (parsed in
 * pages, as HttpClient does), the indexes of Services, DNS and drain, models, claims, placements, and the tables in the
 * kernel, which are not counted. `changeMs` is from the event of one endpoint that changed to its commit.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { silentLogger } from '../../src/base/log.ts';
import { giveIdleMemoryBack, SETTLED_MS } from '../../src/cmd/idle-memory.ts';
import type { ListOptions, ObjectList, WatchOptions } from '../../src/kube/client.ts';
import { compactObject } from '../../src/kube/compact.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import type { EndpointSlice, KindMap, KindName, WatchEvent } from '../../src/kube/types.ts';
import { Conntrack } from '../../src/linux/conntrack.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { DnsController } from '../../src/node/dns/controller.ts';
import { endpointDrain } from '../../src/node/drain/drain.ts';
import { ServicesController } from '../../src/node/services/controller.ts';
import { nftablesRules } from '../../src/node/services/nftables/reconciler.ts';

const PAGE = 500;
const NODES = 50;
/** Endpoints in a slice, as the EndpointSlice controller packs them. */
const SLICE = 100;
const CHANGES = 9;

const hex = (n: number, digits: number): string => n.toString(16).padStart(digits, '0');
const uid = (kind: number, n: number): string => `${hex(n, 8)}-${hex(kind, 4)}-4c1d-9d3e-${hex(n * 7919, 12)}`;
const ip = (first: number, n: number): string => `${first}.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;

/** What a controller manager of Kubernetes writes about the fields that it owns; podwire's server keeps none. */
const managedFields = (manager: string) => [
  {
    manager,
    operation: 'Update',
    apiVersion: 'v1',
    time: '2026-11-26T20:00:00Z',
    fieldsType: 'FieldsV1',
    fieldsV1: { 'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } }, 'f:spec': { 'f:ports': {}, 'f:selector': {} } },
  },
];

function metadata(kind: number, n: number, name: string, labels: object) {
  return {
    name,
    namespace: `team-${n % 40}`,
    uid: uid(kind, n),
    resourceVersion: String(1000 + n),
    generation: 1,
    creationTimestamp: '2026-11-26T20:00:00Z',
    labels,
    managedFields: managedFields('kube-controller-manager'),
  };
}

function serviceJson(n: number): object {
  const clusterIP = ip(10, 0x600000 + n + 1);
  return {
    metadata: metadata(1, n, `service-${n}`, { app: `app-${n}`, 'app.kubernetes.io/part-of': 'shop' }),
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
      selector: { app: `app-${n}` },
      ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
    },
    status: { loadBalancer: {} },
  };
}

function sliceJson(n: number, part: number, from: number, count: number) {
  const namespace = `team-${n % 40}`;
  const serviceName = `service-${n}`;
  return {
    metadata: {
      ...metadata(2, n * 1000 + part, `${serviceName}-${hex(part, 5)}`, {
        app: `app-${n}`,
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
        'kubernetes.io/service-name': serviceName,
      }),
      generateName: `${serviceName}-`,
      namespace,
      annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': '2026-11-26T20:00:00Z' },
      ownerReferences: [
        {
          apiVersion: 'v1',
          kind: 'Service',
          name: serviceName,
          uid: uid(1, n),
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: Array.from({ length: count }, (_, i) => ({
      addresses: [ip(10, 0x800000 + from + i)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${(from + i) % NODES}`,
      zone: `zone-${(from + i) % 3}`,
      targetRef: { kind: 'Pod', namespace, name: `app-${n}-${hex(from + i, 10)}`, uid: uid(3, from + i) },
    })),
  };
}

type Slice = ReturnType<typeof sliceJson>;

function* slicesOf(services: number, endpoints: number): Generator<Slice> {
  for (let n = 0; n < services; n++)
    for (let from = 0, part = 0; from < endpoints; from += SLICE, part++)
      yield sliceJson(n, part, n * endpoints + from, Math.min(SLICE, endpoints - from));
}

function write(folder: string, services: number, endpoints: number): void {
  mkdirSync(folder, { recursive: true });
  const pages = (kind: KindName, objects: Iterable<object>, perPage: number) => {
    let number = 0;
    let page: object[] = [];
    const turn = () => {
      writeFileSync(join(folder, `${kind}-${String(number++).padStart(5, '0')}.json`), JSON.stringify(page));
      page = [];
    };
    for (const object of objects) if (page.push(object) === perPage) turn();
    turn();
  };
  pages(
    'Service',
    Array.from({ length: services }, (_, n) => serviceJson(n)),
    PAGE,
  );
  pages('EndpointSlice', slicesOf(services, endpoints), PAGE);
  pages(
    'Namespace',
    Array.from({ length: 40 }, (_, n) => ({ metadata: { name: `team-${n}`, resourceVersion: '1' } })),
    PAGE,
  );
}

/** Lists what was written; hands pushed slices to the watch. */
class PagesOnDisk extends FakeClient {
  readonly #folder: string;
  readonly #pushed: EndpointSlice[] = [];
  #wake: (() => void) | undefined;

  constructor(folder: string) {
    super();
    this.#folder = folder;
  }

  override async list<K extends KindName>(kind: K, options: ListOptions = {}): Promise<ObjectList<KindMap[K]>> {
    const items: KindMap[K][] = [];
    const pages = readdirSync(this.#folder).filter((name) => name.startsWith(`${kind}-`));
    for (const page of pages.sort())
      for (const item of JSON.parse(readFileSync(join(this.#folder, page), 'utf8')) as KindMap[K][])
        items.push(options.transform ? (options.transform(Object.assign(item, { kind })) as KindMap[K]) : item);
    return { items, resourceVersion: '1' };
  }

  push(slice: EndpointSlice): void {
    this.#pushed.push(slice);
    this.#wake?.();
  }

  override async *watch<K extends KindName>(kind: K, { signal }: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>> {
    while (!signal.aborted) {
      if (kind === 'EndpointSlice')
        for (let slice = this.#pushed.shift(); slice; slice = this.#pushed.shift())
          yield { type: 'MODIFIED', object: slice as unknown as KindMap[K] };
      await new Promise<void>((resolve) => {
        if (kind === 'EndpointSlice') this.#wake = resolve;
      });
    }
  }
}

async function measure(folder: string): Promise<object> {
  const { signal } = new AbortController();
  using ns = NetworkNamespace.anonymous();
  const client = new PagesOnDisk(folder);
  const informer = <K extends KindName>(kind: K) =>
    new Informer(kind, { client, log: silentLogger, transform: compactObject });
  const informers = {
    services: informer('Service'),
    slices: informer('EndpointSlice'),
    pods: informer('Pod'),
    nodes: informer('Node'),
    namespaces: informer('Namespace'),
  };
  const cluster = { podCidrs: ['10.128.0.0/9'], serviceCidrs: ['10.96.0.0/12'], nodeName: 'node-1', log: silentLogger };
  const controller = new ServicesController({
    ...cluster,
    informers: { ...informers, endpointSlices: informers.slices },
    rules: nftablesRules(Nftables.open(ns)),
    conntrack: Conntrack.open(ns),
    nodeAddresses: ['192.0.2.1'],
  });
  new DnsController({ ...cluster, client, informers, nodeAddresses: [], dnsAddresses: [], domain: 'cluster.local' });
  const sync = { waitFor: () => Promise.resolve('synced' as const), keepOnly: () => {} };
  endpointDrain({ ...informers, sync, log: silentLogger });
  const began = performance.now();
  for (const each of Object.values(informers)) void each.start(signal).catch(() => {});
  await controller.start(signal);
  const loadMs = performance.now() - began;
  const peak = process.resourceUsage().maxRSS * 1024;
  giveIdleMemoryBack(signal);
  await sleep(SETTLED_MS + 1000);
  const { rss, heapUsed } = process.memoryUsage();
  const changeMs: number[] = [];
  for (let i = 1; i <= CHANGES; i++) changeMs.push(await timeChange(client, informers.slices, controller, i));
  return { rss, heapUsed, peak, loadMs, changeMs };
}

async function timeChange(
  client: PagesOnDisk,
  slices: Informer<'EndpointSlice'>,
  controller: ServicesController,
  round: number,
): Promise<number> {
  const [before] = slices.list();
  if (!before) return 0;
  const slice = structuredClone(before);
  const address = `10.255.0.${round}`;
  slice.metadata.resourceVersion = `${2_000_000_000 + round}`;
  slice.endpoints[0] = { ...slice.endpoints[0]!, addresses: [address] };
  const frontend = `${ip(10, 0x600000 + 1)} . tcp . 80`;
  const began = performance.now();
  client.push(slice);
  while (!controller.endpointsOf(frontend).includes(`${address} . 8080`)) await turn();
  return performance.now() - began;
}

const [command, folder, ...counts] = process.argv.slice(2) as [string, string, ...string[]];
if (command === 'write') write(folder, Number(counts[0]), Number(counts[1]));
else {
  process.stdout.write(JSON.stringify(await measure(folder)));
  process.exit(0);
}
