import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseCidr } from '../../../base/ip.ts';
import { type IpvsOperation, type RealServerState, serviceKeyText, type VirtualService } from '../../../linux/ipvs.ts';
import { everyKindOfFrontend } from '../every-kind.ts';
import { makeService, makeSlice, makeView } from '../fixtures.ts';
import { buildService, type Frontend, frontendKey } from '../model.ts';
import { renderArpTable, renderTable } from './chains.ts';
import { IpvsBackend, type IpvsPort } from './reconciler.ts';
import { renderFrontend } from './render.ts';

const GOLDEN = join(import.meta.dirname, 'testdata/rendered.txt');
const ADDRESSES = {
  podCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'].map(parseCidr),
  ownPodCidrs: ['10.244.0.0/24', 'fd00:10:244::/64'].map(parseCidr),
  serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'].map(parseCidr),
};
const view = makeView('n1', ['192.0.2.1', '2001:db8::1'], 'z1');

it('renders the golden rules and frontends', () => {
  const frontends = everyKindOfFrontend(view).map((frontend) => {
    const { services, elements, address } = renderFrontend(frontend, 0x100);
    const lines = [
      ...services.map(({ service, servers }) => {
        const how = `${service.scheduler}${service.persistenceSeconds ? ` for ${service.persistenceSeconds} s` : ''}`;
        return `service ${serviceKeyText(service)} ${how}: ${servers.map((each) => `${each.address} ${each.port}`).join(', ')}`;
      }),
      ...elements.map(({ set, key, value }) => `${set} { ${key}${value === undefined ? '' : ` : ${value}`} }`),
      ...(address ? [`address ${address}`] : []),
    ];
    return `# ${frontendKey(frontend)}\n${lines.join('\n')}\n`;
  });
  const text = [renderTable(4, ADDRESSES), renderTable(6, ADDRESSES), renderArpTable(), ...frontends].join('\n');
  if (process.env['UPDATE_GOLDEN']) writeFileSync(GOLDEN, text);
  assert.equal(text, readFileSync(GOLDEN, 'utf8'));
});

/** IPVS, links and nftables in memory; `log` has every step in its order. */
class FakeKernel implements IpvsPort {
  readonly log: string[] = [];
  readonly state = new Map<string, { service: VirtualService; servers: Map<string, RealServerState> }>();
  readonly bound = new Set<string>();

  readonly ipvs = {
    services: () => [...this.state.values()].map(({ service }) => service),
    servers: (key: Parameters<typeof serviceKeyText>[0]) => [...this.state.get(serviceKeyText(key))!.servers.values()],
    change: (operations: readonly IpvsOperation[]) => {
      for (const each of operations) this.#apply(each);
    },
    flush: () => this.state.clear(),
  };

  #apply(operation: IpvsOperation): void {
    const key = serviceKeyText(operation.service);
    const known = this.state.get(key);
    if ('server' in operation) {
      const { address, port, weight } = operation.server;
      const text = `${address} ${port}`;
      this.log.push(`${operation.op} ${key} ${text}${operation.op === 'deleteDestination' ? '' : ` ${weight}`}`);
      assert.equal(known!.servers.has(text), operation.op !== 'newDestination', this.log.at(-1));
      if (operation.op === 'deleteDestination') known!.servers.delete(text);
      else
        known!.servers.set(text, {
          activeConnections: 0,
          inactiveConnections: 0,
          ...known!.servers.get(text),
          address,
          port,
          weight,
        });
      return;
    }
    this.log.push(`${operation.op} ${key}`);
    assert.equal(known !== undefined, operation.op !== 'newService', this.log.at(-1));
    if (operation.op === 'deleteService') this.state.delete(key);
    else this.state.set(key, { service: operation.service, servers: known?.servers ?? new Map() });
  }

  readonly links = {
    link: () => undefined,
    createLink: () => 7,
    ensureNoLink: () => true,
    addresses: () => [],
    addAddress: ({ address }: { address: string }) => {
      this.log.push(`bind ${address}`);
      this.bound.add(address);
    },
    deleteAddress: ({ address }: { address: string }) => {
      this.log.push(`unbind ${address}`);
      this.bound.delete(address);
    },
  };

  readonly nft = {
    run: () => void this.log.push('nft'),
    runAsync: async () => {},
    list: () => 'service-cidrs',
  };

  connections(key: string, server: string, count: number): void {
    const { servers } = this.state.get(key)!;
    servers.set(server, { ...servers.get(server)!, activeConnections: count });
  }
}

const frontend = (endpoints: readonly string[], protocol = 'TCP'): Frontend => {
  const ports = [{ port: 80, protocol }];
  const service = makeService('s', { clusterIPs: ['10.96.0.9'], ports });
  const slice = makeSlice(
    's',
    endpoints.map((address) => ({ address, node: 'n2' })),
    [{ port: 8080, protocol }],
  );
  return buildService(service, [slice], view).frontends[0]!;
};

describe('the mode ipvs', () => {
  const start = async (before: Frontend) => {
    const kernel = new FakeKernel();
    const backend = new IpvsBackend(kernel, [4]);
    // The sysctls are the only thing that is written past the port.
    const loaded = await backend.change([{ id: frontendKey(before), before: undefined, after: before }]);
    assert.ok(loaded > 0);
    kernel.log.length = 0;
    const change = (after: Frontend | undefined) => backend.change([{ id: frontendKey(before), before, after }]);
    return { kernel, backend, change };
  };
  const key = '10.96.0.9 . tcp . 80';

  it('adds to IPVS before packets are let through, and removes after they are refused', async () => {
    const { kernel, change } = await start(frontend([]));
    await change(frontend(['10.244.1.1']));
    assert.deepEqual(kernel.log, [`newService ${key}`, `newDestination ${key} 10.244.1.1 8080 1`, 'nft']);
    kernel.log.length = 0;
    await change(undefined);
    assert.deepEqual(kernel.log, [
      'nft',
      `setDestination ${key} 10.244.1.1 8080 0`,
      `deleteDestination ${key} 10.244.1.1 8080`,
      `deleteService ${key}`,
      'unbind 10.96.0.9/32',
      'nft',
    ]);
  });

  it('keeps a TCP server with weight 0 until its connections have ended, and takes it back', async () => {
    const { kernel, change } = await start(frontend(['10.244.1.1', '10.244.1.2']));
    kernel.connections(key, '10.244.1.1 8080', 1);
    await change(frontend(['10.244.1.2']));
    assert.deepEqual(kernel.log, [`setDestination ${key} 10.244.1.1 8080 0`]);
    kernel.log.length = 0;
    await change(frontend(['10.244.1.1', '10.244.1.2']));
    assert.deepEqual(kernel.log, [`setDestination ${key} 10.244.1.1 8080 1`]);
    await change(frontend(['10.244.1.2']));
    kernel.connections(key, '10.244.1.1 8080', 0);
    kernel.log.length = 0;
    for (let waited = 0; waited < 100 && kernel.log.length === 0; waited++)
      await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual(kernel.log, [`deleteDestination ${key} 10.244.1.1 8080`]);
  });

  it('keeps service and address of a Service that went, until its connections have ended', async () => {
    const { kernel, backend, change } = await start(frontend(['10.244.1.1']));
    kernel.connections(key, '10.244.1.1 8080', 1);
    await change(undefined);
    assert.deepEqual([[...kernel.state.keys()], [...kernel.bound]], [[key], ['10.96.0.9/32']]);
    await backend.change([{ id: key, before: undefined, after: frontend(['10.244.1.3']) }]);
    assert.deepEqual(
      [...kernel.state.get(key)!.servers.values()].map(({ address, weight }) => [address, weight]),
      [
        ['10.244.1.1', 0],
        ['10.244.1.3', 1],
      ],
    );
  });

  it('lets go of UDP servers at once', async () => {
    const { kernel, change } = await start(frontend(['10.244.1.1', '10.244.1.2'], 'UDP'));
    kernel.connections('10.96.0.9 . udp . 80', '10.244.1.1 8080', 3);
    await change(frontend(['10.244.1.2'], 'UDP'));
    assert.deepEqual(kernel.log, ['deleteDestination 10.96.0.9 . udp . 80 10.244.1.1 8080']);
  });
});
