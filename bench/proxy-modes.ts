/**
 * services.iptables.*: the mode iptables against the mode nftables, from the same models: what 10,000 Services cost to load, one
 * change among them, and a connect to the last of them above a direct one. Rules alone, without API and informers.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type IpAddress, parseCidr } from '../src/base/ip.ts';
import { silentLogger } from '../src/base/log.ts';
import type { NetworkNamespace } from '../src/linux/netns.ts';
import { Nftables } from '../src/linux/nftables.ts';
import { Xtables } from '../src/linux/xtables.ts';
import { makeService, makeSlice } from '../src/node/services/fixtures.ts';
import { iptablesRules } from '../src/node/services/iptables/reconciler.ts';
import { buildService, type ServiceModel } from '../src/node/services/model.ts';
import { nftablesRules } from '../src/node/services/nftables/reconciler.ts';
import type { OpenRules } from '../src/node/services/rules.ts';
import { distribution, type Metrics } from './metrics.ts';
import { ConnectLab, compilePrograms, type Programs } from './services/connect-lab.ts';

export const about = 'the modes of the proxy against each other: load, change and connect at 10,000 Services';

const SERVICES = 10_000;
const CHANGES = 20;
const SERVER = ['10.244.0.2', '10.244.0.3'];
const PEER = 'podwire --proxy nftables';
const view = { name: 'n1', nodePortAddresses: ['192.0.2.1' as IpAddress] };
const addresses = {
  podCidrs: [parseCidr('10.244.0.0/16')],
  ownPodCidrs: [parseCidr('10.244.0.0/24')],
  serviceCidrs: [parseCidr('10.96.0.0/12')],
};

interface Figures {
  readonly load: number;
  readonly change: readonly number[];
  /** Microseconds, all in all: with chains a packet for no Service pays too. */
  readonly connect: readonly number[];
}

const address = (prefix: string, n: number): string => `${prefix}.${(n >> 8) & 255}.${n & 255}`;

function model(n: number, generation = 0): ServiceModel {
  const endpoints = n === SERVICES - 1 ? SERVER : [address('10.245', n), address('10.246', n + generation)];
  const service = makeService(`svc-${n}`, { clusterIPs: [address('10.96', n)], ports: [{ name: 'http', port: 80 }] });
  const placed = endpoints.map((each) => ({ address: each, node: 'n2' }));
  return buildService(service, [makeSlice(`svc-${n}`, placed, [{ name: 'http', port: 8080 }])], view);
}

export async function run(): Promise<Metrics> {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-modes-'));
  try {
    const programs = await compilePrograms(folder);
    const iptables = await measure(programs, (ns) => {
      const xtables = Xtables.open({ ns, lockFile: join(folder, 'lock') });
      return { open: iptablesRules(xtables), close: () => xtables.close() };
    });
    const nftables = await measure(programs, (ns) => {
      const nft = Nftables.open(ns);
      return { open: nftablesRules(nft), close: () => nft.close() };
    });
    const row = (unit: 'ms' | 'us', figures: (of: Figures) => readonly number[]) => ({
      unit,
      podwire: distribution(figures(iptables)),
      peer: { name: PEER, ...distribution(figures(nftables)) },
    });
    return {
      'services.iptables.load_10k': row('ms', ({ load }) => [load]),
      'services.iptables.change_at_10k': row('ms', ({ change }) => change),
      'services.iptables.connect_10k': row('us', ({ connect }) => connect),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

type Mode = (ns: NetworkNamespace) => { readonly open: OpenRules; readonly close: () => void };

async function measure(programs: Programs, mode: Mode): Promise<Figures> {
  using lab = new ConnectLab(programs);
  await lab.serve();
  const { open, close } = mode(lab.node);
  const rules = open({ addresses, log: silentLogger });
  const time = async (models: readonly ServiceModel[]): Promise<number> => {
    const began = performance.now();
    await rules.apply(models.map((each) => [each.key, each]));
    return performance.now() - began;
  };
  const load = await time(Array.from({ length: SERVICES }, (_, n) => model(n)));
  const change: number[] = [];
  for (let i = 0; i < CHANGES; i++) change.push(await time([model(i * 37, i + 1)]));
  const last = address('10.96', SERVICES - 1);
  lab.measure(last);
  const connect = lab.measure(last);
  close();
  return { load, change, connect };
}
