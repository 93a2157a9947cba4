import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointSlice } from '../../kube/types.ts';
import { pod, running, service } from '../fixtures.ts';
import { desiredSlices } from './slices.ts';
import { formatTriggerTime, TriggerTimes, triggerTimeAnnotation } from './trigger-times.ts';

const zones: Record<string, string> = { n1: 'a', n2: 'b' };

function hints(trafficDistribution: string | undefined) {
  const web = service('web', {
    selector: { app: 'web' },
    ipFamilies: ['IPv4'],
    clusterIP: '10.96.0.5',
    ports: [{ port: 80 }],
    ...(trafficDistribution ? { trafficDistribution } : {}),
  });
  const at = (nodeName: string, ip: string, ready = true) =>
    pod(`on-${nodeName}`, { spec: { nodeName }, status: running([ip], ready) });
  const pods = [at('n1', '10.0.0.1'), at('n2', '10.0.0.2'), at('n3', '10.0.0.3'), at('n1', '10.0.0.4', false)];
  const { create } = desiredSlices({ service: web, pods, existing: [], zoneOf: (name) => zones[name] });
  return create[0]!.endpoints.map((endpoint) => endpoint.hints);
}

test('hints by trafficDistribution: ready endpoints only, zones of nodes that have one', () => {
  const zone = (name: string) => ({ forZones: [{ name }] });
  assert.deepEqual(hints(undefined), [undefined, undefined, undefined, undefined]);
  for (const close of ['PreferClose', 'PreferSameZone']) {
    assert.deepEqual(hints(close), [zone('a'), zone('b'), undefined, undefined], close);
  }
  assert.deepEqual(hints('PreferSameNode'), [
    { ...zone('a'), forNodes: [{ name: 'n1' }] },
    { ...zone('b'), forNodes: [{ name: 'n2' }] },
    { forNodes: [{ name: 'n3' }] },
    undefined,
  ]);
});

test('times are written as Go writes them', () => {
  assert.equal(formatTriggerTime(Date.UTC(2026, 0, 1)), '2026-01-01T00:00:00Z');
  assert.equal(formatTriggerTime(Date.UTC(2026, 0, 1, 10, 20, 30, 120)), '2026-01-01T10:20:30.12Z');
  assert.equal(formatTriggerTime(Date.UTC(2026, 0, 1, 10, 20, 30, 7)), '2026-01-01T10:20:30.007Z');
});

test('the earliest new change counts, each of them once', () => {
  const times = new TriggerTimes();
  const web = service('web', { selector: { app: 'web' } }, { creationTimestamp: '2026-01-01T00:00:00Z' });
  const since = (name: string, time: string) => pod(name, { status: running(['10.0.0.1'], true, time) });
  const a = since('a', '2026-01-01T00:00:10Z');
  const b = since('b', '2026-01-01T00:00:20Z');
  const second = (n: number) => Date.UTC(2026, 0, 1, 0, 0, n);
  assert.equal(times.next('x', web, [a]), second(0), 'a new Service: its creation');
  assert.equal(times.next('x', web, [a]), undefined, 'nothing new');
  assert.equal(times.next('x', web, [a, b]), second(20));
  const changed = [since('a', '2026-01-01T00:00:40Z'), since('b', '2026-01-01T00:00:30Z')];
  assert.equal(times.next('x', web, changed), second(30));
  assert.equal(times.next('x', web, []), undefined, 'a pod that goes has no time');
  times.forget('x');
  assert.equal(times.next('x', web, []), second(0));
});

test('what is written carries the time of its change, or loses an old one', () => {
  const web = service('web', { selector: { app: 'web' }, ipFamilies: ['IPv4'], ports: [{ port: 80 }] });
  const pods = [pod('a', { status: running(['10.0.0.1']) })];
  const stored = (draft: { metadata: object }): EndpointSlice => {
    const metadata = { name: 'web-1', namespace: 'default', uid: 'u', resourceVersion: '1', creationTimestamp: '' };
    return { ...(draft as EndpointSlice), metadata: { ...metadata, ...draft.metadata } };
  };
  const base = { service: web, zoneOf: () => undefined };
  const { create } = desiredSlices({ ...base, pods, existing: [], changedAt: 1000 });
  const slice = stored(create[0]!);
  assert.equal(slice.metadata.annotations?.[triggerTimeAnnotation], '1970-01-01T00:00:01Z');
  const kept = { ...slice, metadata: { ...slice.metadata, annotations: { mine: 'x', ...slice.metadata.annotations } } };
  assert.deepEqual(
    desiredSlices({ ...base, pods, existing: [kept], changedAt: 2000 }).update,
    [],
    'no write for a time',
  );
  const { update } = desiredSlices({ ...base, pods: [], existing: [kept] });
  assert.deepEqual(update[0]?.metadata.annotations, { mine: 'x' });
});
