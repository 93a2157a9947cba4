import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EndpointSlice, Pod, Service } from '../../kube/types.ts';
import { pod, running, service } from '../fixtures.ts';
import { maxEndpointsPerSlice, type SliceChanges } from './slice-packing.ts';
import { desiredSlices } from './slices.ts';

const web = service('web', {
  selector: { app: 'web' },
  ipFamilies: ['IPv4'],
  clusterIP: '10.96.0.5',
  ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }],
});

const named = (containerPort: number) => ({
  containers: [{ name: 'main', image: 'x', ports: [{ name: 'http', containerPort }] }],
});

function webPod(
  index: number,
  shape: { port?: number; ready?: boolean; node?: string; terminating?: boolean } = {},
): Pod {
  return pod(`web-${String(index).padStart(4, '0')}`, {
    labels: { app: 'web' },
    spec: { ...named(shape.port ?? 8080), nodeName: shape.node ?? 'n1' },
    status: running([`10.0.${index >> 8}.${index & 255}`, `fd00::${(index + 1).toString(16)}`], shape.ready ?? true),
    metadata: {
      uid: `uid-${index}`,
      ...(shape.terminating ? { deletionTimestamp: '2026-01-01T00:01:00Z' } : {}),
    },
  });
}

/** The server's side: applies the changes to what exists. */
class Slices {
  readonly stored = new Map<string, EndpointSlice>();
  writes = 0;
  #serial = 0;

  apply({ create, update, delete: gone }: SliceChanges): void {
    this.writes += create.length + update.length + gone.length;
    for (const draft of create) {
      const name = `${draft.metadata.generateName}${String(this.#serial++).padStart(5, '0')}`;
      const meta = {
        ...draft.metadata,
        name,
        namespace: 'default',
        uid: name,
        resourceVersion: '1',
        creationTimestamp: '',
      };
      this.stored.set(name, { ...draft, apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: meta });
    }
    for (const slice of update) {
      assert.equal(slice.addressType, this.stored.get(slice.metadata.name)?.addressType, 'addressType is immutable');
      this.stored.set(slice.metadata.name, slice);
    }
    for (const slice of gone) assert.ok(this.stored.delete(slice.metadata.name));
  }

  sync(owner: Service, pods: readonly Pod[], zoneOf: (node: string) => string | undefined = () => undefined): number {
    const before = this.writes;
    this.apply(desiredSlices({ service: owner, pods, existing: [...this.stored.values()], zoneOf }));
    return this.writes - before;
  }

  get list(): readonly EndpointSlice[] {
    return [...this.stored.values()];
  }

  /** What the slices say together, however they are cut. */
  get content(): readonly string[] {
    return this.list
      .flatMap((slice) =>
        slice.endpoints.map((endpoint) =>
          JSON.stringify([slice.addressType, slice.ports, endpoint, slice.metadata.labels]),
        ),
      )
      .sort();
  }
}

test('an endpoint carries address, conditions, place and pod', () => {
  const slices = new Slices();
  const owner = { ...web, metadata: { ...web.metadata, labels: { team: 'x' } } };
  slices.sync(owner, [webPod(1, { node: 'n2' })], (name) => `zone-of-${name}`);
  const [slice] = slices.list;
  assert.deepEqual(slice!.metadata.labels, {
    team: 'x',
    'kubernetes.io/service-name': 'web',
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
  });
  assert.equal(slice!.metadata.ownerReferences?.[0]?.uid, web.metadata.uid);
  assert.deepEqual(slice!.ports, [{ name: 'http', port: 8080, protocol: 'TCP' }]);
  assert.deepEqual(slice!.endpoints, [
    {
      addresses: ['10.0.0.1'],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: 'n2',
      zone: 'zone-of-n2',
      targetRef: { kind: 'Pod', namespace: 'default', name: 'web-0001', uid: 'uid-1' },
    },
  ]);
});

test('conditions', () => {
  const publish = { ...web, spec: { ...web.spec, publishNotReadyAddresses: true } };
  const cases = [
    [web, { ready: true }, { ready: true, serving: true, terminating: false }],
    [web, { ready: false }, { ready: false, serving: false, terminating: false }],
    [web, { ready: true, terminating: true }, { ready: false, serving: true, terminating: true }],
    [web, { ready: false, terminating: true }, { ready: false, serving: false, terminating: true }],
    [publish, { ready: false }, { ready: true, serving: false, terminating: false }],
    [publish, { ready: true, terminating: true }, { ready: true, serving: true, terminating: true }],
  ] as const;
  for (const [owner, shape, conditions] of cases) {
    const slices = new Slices();
    slices.sync(owner, [webPod(1, shape)]);
    assert.deepEqual(slices.list[0]!.endpoints[0]!.conditions, conditions);
  }
});

test('pods without an address, and ended ones, are no endpoints', () => {
  const slices = new Slices();
  const labels = { app: 'web' };
  const ended = pod('ended', { labels, status: { ...running(['10.0.0.9']), phase: 'Succeeded' } });
  slices.sync(web, [pod('new', { labels }), ended]);
  assert.equal(slices.list.length, 1, 'a slice that says: nobody');
  assert.deepEqual(slices.list[0]!.endpoints, []);
});

test('both families: a slice of each; a family that goes takes its slices along', () => {
  const slices = new Slices();
  const dual = { ...web, spec: { ...web.spec, ipFamilies: ['IPv4', 'IPv6'] } };
  slices.sync(dual, [webPod(1)]);
  assert.deepEqual(slices.list.map((slice) => [slice.addressType, slice.endpoints[0]!.addresses[0]]).sort(), [
    ['IPv4', '10.0.0.1'],
    ['IPv6', 'fd00::2'],
  ]);
  slices.sync(web, [webPod(1)]);
  assert.deepEqual(
    slices.list.map((slice) => slice.addressType),
    ['IPv4'],
  );
});

test('a named port with different numbers gives different slices', () => {
  const slices = new Slices();
  slices.sync(web, [webPod(1, { port: 8080 }), webPod(2, { port: 9090 }), webPod(3, { port: 8080 })]);
  const view = slices.list.map((slice) => [slice.ports![0]!.port, slice.endpoints.length]);
  assert.deepEqual(view.sort(), [
    [8080, 2],
    [9090, 1],
  ]);
});

test('hostname, headless label and a Service without ports', () => {
  const headless = service('db', { selector: { app: 'web' }, ipFamilies: ['IPv4'], clusterIP: 'None' });
  const slices = new Slices();
  const one = webPod(1);
  slices.sync(headless, [{ ...one, spec: { ...one.spec, hostname: 'db-0', subdomain: 'db' } }, webPod(2)]);
  const [slice] = slices.list;
  assert.equal(slice!.metadata.labels!['service.kubernetes.io/headless'], '');
  assert.deepEqual(slice!.ports, []);
  assert.deepEqual(
    slice!.endpoints.map((endpoint) => endpoint.hostname),
    ['db-0', undefined],
  );
});

test('few writes: one change is one write, an empty slice is used again', () => {
  const slices = new Slices();
  const pods = Array.from({ length: 250 }, (_, i) => webPod(i));
  assert.equal(slices.sync(web, pods), 3);
  assert.equal(slices.sync(web, pods), 0);
  pods[120] = webPod(120, { ready: false });
  assert.equal(slices.sync(web, pods), 1);
  pods.splice(10, 1);
  assert.equal(slices.sync(web, pods), 1);
  pods.push(webPod(300));
  assert.equal(slices.sync(web, pods), 1);
  const names = () => slices.list.map((slice) => slice.metadata.name).sort();
  const before = names();
  const rest = pods.slice(0, 1);
  assert.equal(slices.sync(web, rest), 3);
  assert.equal(slices.list.length, 1);
  const small = names();
  assert.ok(before.includes(small[0]!));
  assert.equal(slices.sync(web, []), 1);
  assert.equal(slices.sync(web, [webPod(7)]), 1);
  assert.deepEqual(names(), small, 'the same slice went empty and came back');
});

test('slices that someone else broke are mended', () => {
  const slices = new Slices();
  slices.sync(web, [webPod(1), webPod(2)]);
  const [slice] = slices.list;
  const copy = { ...slice!, metadata: { ...slice!.metadata, name: 'web-zzzzz', uid: 'z' } };
  slices.stored.set(copy.metadata.name, copy);
  const expected = new Slices();
  expected.sync(web, [webPod(1), webPod(2)]);
  slices.sync(web, [webPod(1), webPod(2)]);
  assert.deepEqual(slices.content, expected.content);
  assert.equal(slices.list.length, 1);
});

const change = fc.record({
  index: fc.integer({ min: 0, max: 320 }),
  count: fc.integer({ min: 1, max: 180 }),
  action: fc.constantFrom('add', 'remove', 'unready', 'terminate'),
  port: fc.constantFrom(8080, 8080, 9090),
});

test('after any history the slices hold the same, never over the bound, and a second look writes nothing', () => {
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), (changes) => {
      const slices = new Slices();
      const pods = new Map<number, Pod>();
      for (const { index, count, action, port } of changes) {
        for (let i = index; i < index + count; i++) {
          if (action === 'remove') pods.delete(i);
          else pods.set(i, webPod(i, { port, ready: action !== 'unready', terminating: action === 'terminate' }));
        }
        slices.sync(web, [...pods.values()]);
        for (const slice of slices.list) assert.ok(slice.endpoints.length <= maxEndpointsPerSlice);
        assert.equal(slices.sync(web, [...pods.values()]), 0);
      }
      const direct = new Slices();
      direct.sync(web, [...pods.values()].reverse());
      assert.deepEqual(slices.content, direct.content);
      assert.equal(new Set(slices.list.flatMap((s) => s.endpoints.map((e) => e.targetRef!.uid))).size, pods.size);
    }),
    { numRuns: 60 },
  );
});
