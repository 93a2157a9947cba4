import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FakeClock } from '../../base/clock.ts';
import { type IpAddress, parseCidr } from '../../base/ip.ts';
import { silentLogger } from '../../base/log.ts';
import { type ConntrackFilter, type ConntrackFlow, matchesFilter } from '../../linux/conntrack.ts';
import type { Frontend } from './model.ts';
import { type Placement, place } from './nftables/placement.ts';
import { StaleFlows } from './stale-flows.ts';

class FakeConntrack {
  flows: ConntrackFlow[] = [];
  passes = 0;
  count(): number {
    return this.flows.length;
  }
  list(filter: ConntrackFilter = {}): ConntrackFlow[] {
    this.passes++;
    return this.flows.filter((flow) => matchesFilter(flow, filter));
  }
  delete(filter: ConntrackFilter): void {
    this.deleteFlows(this.list(filter));
  }
  deleteFlows(flows: readonly ConntrackFlow[]): void {
    this.flows = this.flows.filter((flow) => !flows.includes(flow));
  }
}

let id = 0;
function flow(
  to: string,
  port: number,
  endpoint: string,
  endpointPort: number,
  protocol: 'udp' | 'tcp' = 'udp',
): ConntrackFlow {
  const ip = (text: string) => text as IpAddress;
  const client = ip(to.includes(':') ? 'fd00:10:244::9' : '10.244.0.9');
  return {
    family: to.includes(':') ? 6 : 4,
    protocol,
    orig: { source: client, destination: ip(to), sourcePort: 40000, destinationPort: port, icmp: undefined },
    reply: {
      source: ip(endpoint),
      destination: client,
      sourcePort: endpointPort,
      destinationPort: 40000,
      icmp: undefined,
    },
    zone: 0,
    mark: 0,
    status: 0,
    timeout: 30,
    id: ++id,
  };
}

function placement(address: string, endpoints: readonly string[], protocol: 'udp' | 'tcp' = 'udp'): Placement {
  const frontend: Frontend = {
    family: address.includes(':') ? 6 : 4,
    address: address as IpAddress,
    protocol,
    port: 53,
    role: 'clusterIP',
    masquerade: false,
    inside:
      endpoints.length === 0
        ? { kind: 'reject' }
        : {
            kind: 'endpoints',
            endpoints: endpoints.map((each) => ({ address: each as IpAddress, port: 53, local: true })),
          },
  };
  return place(frontend);
}

function setup() {
  const conntrack = new FakeConntrack();
  const clock = new FakeClock();
  const serviceCidrs = [parseCidr('10.96.0.0/16'), parseCidr('fd00:10:96::/112')];
  return { conntrack, clock, stale: new StaleFlows({ conntrack, serviceCidrs, log: silentLogger, clock }) };
}

const ends = (conntrack: FakeConntrack) => conntrack.flows.map(({ reply }) => reply.source);

for (const [service, a, b] of [
  ['10.96.0.1', '10.244.0.2', '10.244.0.3'],
  ['fd00:10:96::1', 'fd00:10:244::2', 'fd00:10:244::3'],
] as const) {
  describe(`stale UDP flows to ${service}`, () => {
    it('to an endpoint that left end, others stay', () => {
      const { conntrack, stale } = setup();
      conntrack.flows = [flow(service, 53, a, 53), flow(service, 53, b, 53), flow(service, 54, a, 53)];
      stale.note(placement(service, [a, b]), placement(service, [b]));
      stale.clear();
      assert.deepEqual(ends(conntrack), [b, a]);
    });

    it('all end at zero endpoints, on deletion, and when the first endpoint comes', () => {
      for (const [before, after] of [
        [placement(service, [a]), placement(service, [])],
        [placement(service, [a]), undefined],
        [undefined, placement(service, [b])],
        [placement(service, []), placement(service, [b])],
      ] as const) {
        const { conntrack, stale } = setup();
        conntrack.flows = [flow(service, 53, a, 53), flow(service, 53, service, 53)];
        stale.note(before, after);
        stale.clear();
        assert.deepEqual(ends(conntrack), []);
      }
    });

    it('are not looked for when nothing left, or the frontend is TCP', () => {
      const { conntrack, stale } = setup();
      conntrack.flows = [flow(service, 53, a, 53)];
      stale.note(placement(service, [a]), placement(service, [a, b]));
      stale.note(placement(service, [a], 'tcp'), placement(service, [b], 'tcp'));
      stale.clear();
      assert.equal(conntrack.passes, 0);
    });

    it('of many changes end in few passes', async () => {
      const { conntrack, stale, clock } = setup();
      conntrack.flows = [flow(service, 53, a, 53)];
      for (let i = 0; i < 100; i++) {
        stale.note(placement(service, [a, b]), placement(service, [b]));
        stale.clear();
      }
      assert.equal(conntrack.passes, 1);
      conntrack.flows.push(flow(service, 53, a, 53));
      await clock.advance(500);
      assert.equal(conntrack.passes, 2);
      assert.deepEqual(ends(conntrack), []);
    });

    it('but never those to endpoints that serve when it is looked', async () => {
      const { conntrack, stale, clock } = setup();
      conntrack.flows = [flow(service, 53, a, 53)];
      stale.note(placement(service, [a]), undefined);
      stale.clear();
      assert.deepEqual(ends(conntrack), []);
      // The next pass is later, and clients do not wait for it.
      stale.note(undefined, placement(service, [a, b]));
      stale.note(placement(service, [a, b]), placement(service, [b]));
      stale.clear();
      conntrack.flows = [flow(service, 53, service, 53), flow(service, 53, a, 53), flow(service, 53, b, 53)];
      await clock.advance(500);
      assert.deepEqual(ends(conntrack), [b]);
      // One that left and came back.
      stale.note(placement(service, [a, b]), placement(service, [b]));
      stale.clear();
      stale.note(placement(service, [a, b]), placement(service, [b]));
      stale.note(placement(service, [b]), placement(service, [a, b]));
      stale.clear();
      conntrack.flows = [flow(service, 53, a, 53), flow(service, 53, b, 53)];
      await clock.advance(500);
      assert.deepEqual(ends(conntrack), [a, b]);
    });

    it('are compared with everything after a start', () => {
      const { conntrack, stale } = setup();
      const gone = service.replace(/1$/, '9');
      conntrack.flows = [flow(service, 53, a, 53), flow(service, 53, b, 53), flow(gone, 53, a, 53), flow(a, 53, a, 53)];
      const known = placement(service, [b]);
      stale.clearAll(new Map([[`${service} . udp . 53`, known]]));
      assert.deepEqual(ends(conntrack), [b, a]);
    });
  });
}
