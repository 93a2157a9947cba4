/**
 * One Service with 20,000 endpoints, by packets: every one of them can be met, those that leave are met no more, and the kernel
 * ends as a fresh start would write it. All endpoints are addresses of one namespace, which answers for a whole prefix.
 */
import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it } from 'node:test';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { listenTcp } from '../../src/linux/sockets.ts';
import { makeService, makeSlice } from '../../src/node/services/fixtures.ts';
import { buildService, type NodeView } from '../../src/node/services/model.ts';
import { skip } from './linux-fixture.ts';
import { NODE_ADDRESSES, PATIENCE_MS, PLACES, ServicesLab } from './services-lab.ts';
import { nftablesMode } from './services-modes.ts';

const ENDPOINTS = 20_000;
const IN_SLICE = 100;
const PORT = 9000;
const CONNECTS = 2000;
const CLIENTS = 50;
const view: NodeView = { name: 'n1', nodePortAddresses: NODE_ADDRESSES };

const FAMILIES = {
  IPv4: { prefix: '10.245.0.0/16', clusterIP: '10.96.0.7', any: '0.0.0.0', address: v4 },
  IPv6: { prefix: 'fd00:10:245::/96', clusterIP: 'fd00:10:96::7', any: '::', address: v6 },
} as const;

function v4(n: number): string {
  return `10.245.${n >> 8}.${n & 255}`;
}

function v6(n: number): string {
  return `fd00:10:245::${(n + 1).toString(16)}`;
}

for (const [name, { prefix, clusterIP, any, address }] of Object.entries(FAMILIES)) {
  describe(`${name}: one Service with ${ENDPOINTS} endpoints`, { skip }, () => {
    const service = makeService('huge', { clusterIP, clusterIPs: [clusterIP], ports: [{ port: 80 }] });
    /** The slices of the endpoints that are wanted, each endpoint in the same slice always, and every first one doubled. */
    const model = (isWanted: (n: number) => boolean) => {
      const slices = Array.from({ length: ENDPOINTS / IN_SLICE }, (_, s) => {
        const numbers = Array.from({ length: IN_SLICE }, (_, i) => s * IN_SLICE + i).filter(isWanted);
        const addresses = numbers.map(address);
        return makeSlice('huge', [...addresses, ...addresses.slice(0, 1)], [{ port: PORT }], {
          suffix: String(s),
          addressType: name,
        });
      });
      return buildService(service, slices, view);
    };

    it('meets all of them, and none that has left', async (t) => {
      await using lab = await ServicesLab.start();
      await serveAll(lab, prefix, any);
      const rules = nftablesMode.open(lab);
      const apply = async (isWanted: (n: number) => boolean) => {
        const began = performance.now();
        await rules.apply([['default/huge', model(isWanted)]]);
        return Math.round(performance.now() - began);
      };
      const ask = async () => {
        const waitMs = PATIENCE_MS;
        const outcome = await lab.probe({ from: 'a', destination: clusterIP, port: 80, protocol: 'tcp', waitMs });
        return outcome.kind === 'answer' ? outcome.endpoint : outcome.kind;
      };
      const askMany = async () => {
        const met: string[] = [];
        const client = async () => {
          for (let i = 0; i < CONNECTS / CLIENTS; i++) met.push(await ask());
        };
        await Promise.all(Array.from({ length: CLIENTS }, client));
        return met;
      };
      const endpoints = new Set(Array.from({ length: ENDPOINTS }, (_, n) => `${address(n)} ${PORT}`));

      const took = [await apply(() => true)];
      const met = await askMany();
      assert.deepEqual(
        met.filter((each) => !endpoints.has(each)),
        [],
      );
      // 2,000 random draws of 20,000 meet 1,903 different ones; fewer than 1,800 is less likely than one in 10^15.
      assert.ok(new Set(met).size > 1800, `${new Set(met).size} different ones`);

      const odd = new Set(Array.from(endpoints).filter((_, n) => n % 2 === 1));
      const connecting = askMany();
      took.push(await apply((n) => n % 2 === 1));
      assert.deepEqual(
        (await connecting).filter((each) => !endpoints.has(each)),
        [],
        'nobody is refused while half of them leave',
      );
      assert.deepEqual(
        (await askMany()).filter((each) => !odd.has(each)),
        [],
      );
      took.push(await apply((n) => n === 19_999));
      assert.deepEqual([await ask(), await ask()], [`${address(19_999)} ${PORT}`, `${address(19_999)} ${PORT}`]);
      took.push(await apply(() => true));
      await rules.apply([]);
      assert.equal(rules.endpointsOf(`${clusterIP} . tcp . 80`).length, ENDPOINTS);
      await nftablesMode.assertFresh(lab, rules);
      took.push(await apply(() => false));
      assert.equal(await ask(), 'refused');
      await rules.apply([['default/huge', undefined]]);
      await rules.apply([]);
      await nftablesMode.assertEmpty(lab);
      t.diagnostic(`all, half, one, all again, none: ${took.join(', ')} ms`);
    });
  });
}

/** Lets a pod of another node have every address of the prefix, and answer at each which one it is. */
async function serveAll(lab: ServicesLab, prefix: string, any: string): Promise<void> {
  const ns = lab.space('far-a');
  using inside = Rtnetlink.open(ns);
  inside.addRoute({ destination: prefix, device: 'lo', type: 'local' });
  using links = Rtnetlink.open(lab.node);
  // By way of one address: a neighbour entry for each of the endpoints is more than a kernel keeps.
  const via = PLACES['far-a'][any === '::' ? 1 : 0];
  links.addRoute({ destination: prefix, via, device: 'far-a', onlink: true });
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`${socket.localAddress} ${socket.localPort}|${socket.remoteAddress}\n`);
  });
  await new Promise<void>((resolve) => server.listen({ fd: listenTcp({ ns, address: any, port: PORT }) }, resolve));
  lab.onClose(() => void server.close());
}
