/**
 * Endpoints come and go as fast as they can while clients in a process of their own connect: nobody is refused, and nothing is
 * left over. PODWIRE_CHURN raises the number of connects of each client, PODWIRE_CHANGES the number of changes: they connect again and
 * again until there were so many.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { extname, join } from 'node:path';
import { it } from 'node:test';
import { makeService, makeSlice } from '../../src/node/services/fixtures.ts';
import { buildService, type NodeView, type ServiceModel } from '../../src/node/services/model.ts';
import { NODE_ADDRESSES, PLACES, type Place, SERVER_PORTS, ServicesLab } from './services-lab.ts';
import type { ModeUnderTest } from './services-modes.ts';

const OTHERS = 50;
/** Beside this file; beside the bundle of it in the other kernel (test/otherkernel). */
const CONNECTOR = join(import.meta.dirname, `../netns/services-connector${extname(import.meta.filename)}`);

const view: NodeView = { name: 'n1', nodePortAddresses: NODE_ADDRESSES };
const PODS = [PLACES.a, PLACES.b, PLACES.c, PLACES['far-a'], PLACES['far-b']];
const ENDPOINTS = SERVER_PORTS.flatMap((port) => PODS.map((addresses) => ({ addresses, port })));

/** The Service with some of the ten endpoints, in a slice for each server port and family. */
function withEndpoints(name: string, n: number, mask: number, sessionAffinity?: string): ServiceModel {
  const slices = [0, 1].flatMap((family) =>
    SERVER_PORTS.map((port) =>
      makeSlice(
        name,
        ENDPOINTS.flatMap((each, i) => (each.port === port && mask & (1 << i) ? [each.addresses[family]!] : [])),
        [{ port }],
        { suffix: `${family}-${port}`, addressType: family === 0 ? 'IPv4' : 'IPv6' },
      ),
    ),
  );
  const clusterIPs = [`10.96.0.${n}`, `fd00:10:96::${n}`];
  return buildService(
    makeService(name, { clusterIPs, ports: [{ port: 80 }], ...(sessionAffinity ? { sessionAffinity } : {}) }),
    slices,
    view,
  );
}

interface Met {
  readonly connected: number;
  readonly refused: number;
  readonly other: number;
}

async function connectOnce(
  lab: ServicesLab,
  from: Place,
  address: string,
  { connects, pauseMs = 0 }: Churn,
): Promise<Met> {
  const child = lab.space(from).run(() =>
    spawn(process.execPath, [CONNECTOR, address, '80', String(connects), String(pauseMs)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );
  let text = '';
  child.stdout.on('data', (bytes) => {
    text += bytes;
  });
  await once(child, 'close');
  return JSON.parse(text);
}

/** Connects until there were enough changes; what did not connect. */
async function connectOn(ask: () => Promise<Met>, isEnough: () => boolean): Promise<Met> {
  const sum = { connected: 0, refused: 0, other: 0 };
  do {
    const met = await ask();
    for (const key of ['connected', 'refused', 'other'] as const) sum[key] += met[key];
  } while (!isEnough());
  return sum;
}

interface Churn {
  /** Of each client; again and again until there were enough changes. */
  readonly connects: number;
  /** How long a client waits between two connects, where it would leave no processor to the changes; default not at all. */
  readonly pauseMs?: number;
  /** The least number of changes. */
  readonly changes: number;
  /** How many of the ten endpoints come or go with each, of two Services in both families; default one. */
  readonly endpoints?: number;
}

/** Defines the test for a mode, with so much by default. */
export function testChurn(mode: ModeUnderTest, least: Churn): void {
  const connects = Number(process.env['PODWIRE_CHURN'] ?? least.connects);
  const changes = Math.max(least.changes, Number(process.env['PODWIRE_CHANGES'] ?? 0));
  it(`refuses nobody while endpoints come and go in mode ${mode.name}, and leaves nothing over`, async (t) => {
    await using lab = await ServicesLab.start();
    await mode.prepare?.(lab);
    t.diagnostic(await churn(mode, lab, { ...least, connects, changes }));
  });
}

async function churn(mode: ModeUnderTest, lab: ServicesLab, least: Churn): Promise<string> {
  const rules = mode.open(lab);
  const others = Array.from({ length: OTHERS }, (_, i) => withEndpoints(`other-${i}`, 100 + i, 3));
  await rules.apply(
    [withEndpoints('churn', 1, 1023), withEndpoints('sticky', 2, 1023, 'ClientIP'), ...others].map((model) => [
      model.key,
      model,
    ]),
  );
  // Sockets of the node and its pods are translated at connect, everybody else's packets on their way.
  const from = mode.translates === 'sockets' ? 'a' : 'outside';
  let changes = 0;
  let running = true;
  const clients = ['10.96.0.1', 'fd00:10:96::1', '10.96.0.2'].map((address) =>
    connectOn(
      () => connectOnce(lab, from, address, least),
      () => changes >= least.changes,
    ),
  );
  const results = Promise.all(clients).finally(() => {
    running = false;
  });
  // A walk through sets of endpoints that are not empty.
  for (let mask = 1023; running; changes++) {
    let next = mask;
    for (let i = 0; i < (least.endpoints ?? 1); i++) next ^= 1 << ((changes * 7 + i * 3) % 10);
    if (next !== 0) mask = next;
    await rules.apply([
      ['default/churn', withEndpoints('churn', 1, mask)],
      ['default/sticky', withEndpoints('sticky', 2, mask, 'ClientIP')],
    ]);
    if (changes % 3 === 0) await rules.apply([]);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const met = await results;
  for (const { refused, other } of met) assert.deepEqual({ refused, other }, { refused: 0, other: 0 });
  for (const { connected } of met) assert.ok(connected >= least.connects, `only ${connected} connects`);
  assert.equal(rules.stats.failures, 0);
  await rules.apply([]);
  await mode.assertFresh(lab, rules);
  await rules.apply([
    ['default/churn', undefined],
    ['default/sticky', undefined],
    ...others.map(({ key }) => [key, undefined] as const),
  ]);
  await rules.apply([]);
  await mode.drained?.(lab);
  await mode.assertEmpty(lab);
  const endpoints = changes * 4 * (least.endpoints ?? 1);
  return `${changes} changes of ${endpoints} endpoints, ${met.map(({ connected }) => connected).join(' + ')} connects`;
}
