/** The modes of the proxy: what puts a node's Services into its kernel. Only the code of the chosen mode is loaded. */
import { join } from 'node:path';
import type { ProxyMode } from '../cluster/proxy-mode.ts';
import type { OpenRules } from '../node/services/rules.ts';

/** What a mode is told beside its name. */
export interface ModeOptions {
  /** The agent's folder. */
  readonly state: string;
  readonly servicePrograms?: string;
  readonly socketCgroup?: string;
}

/** The rules of a mode, in the network namespace of this process, which nobody else writes iptables to. */
export async function openRules(mode: ProxyMode, options: ModeOptions): Promise<OpenRules> {
  switch (mode) {
    case 'nftables': {
      const [{ nftablesRules }, { Nftables }] = await Promise.all([
        import('../node/services/nftables/reconciler.ts'),
        import('../linux/nftables.ts'),
      ]);
      return nftablesRules(Nftables.open());
    }
    case 'iptables': {
      const [{ iptablesRules }, { Xtables }] = await Promise.all([
        import('../node/services/iptables/reconciler.ts'),
        import('../linux/xtables.ts'),
      ]);
      return iptablesRules(Xtables.open({ lockFile: join(options.state, 'xtables.lock') }));
    }
    case 'ebpf': {
      const { servicePrograms: object, socketCgroup: cgroup } = options;
      if (!object || !cgroup) throw new Error('the proxy mode ebpf needs --service-programs and --socket-cgroup');
      const { ebpfRules } = await import('../node/services/ebpf/reconciler.ts');
      return ebpfRules({ object, cgroup, packets: await openRules('nftables', options) });
    }
    case 'ipvs': {
      const [{ ipvsRules }, { Ipvs }, { Nftables }, { Rtnetlink }] = await Promise.all([
        import('../node/services/ipvs/reconciler.ts'),
        import('../linux/ipvs.ts'),
        import('../linux/nftables.ts'),
        import('../linux/rtnetlink.ts'),
      ]);
      return ipvsRules({ ipvs: Ipvs.open(), links: Rtnetlink.open(), nft: Nftables.open() });
    }
  }
}
