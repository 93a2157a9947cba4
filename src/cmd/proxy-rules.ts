/** The modes of the proxy: what puts a node's Services into its kernel. Only the code of the chosen mode is loaded. */
import { join } from 'node:path';
import type { ProxyMode } from '../cluster/proxy-mode.ts';
import type { OpenRules } from '../node/services/rules.ts';

/** The rules of a mode, in the network namespace of this process, which nobody else writes iptables to; `state` is its folder. */
export async function openRules(mode: ProxyMode, state: string): Promise<OpenRules> {
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
      return iptablesRules(Xtables.open({ lockFile: join(state, 'xtables.lock') }));
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
    case 'ebpf':
      throw new Error(`the proxy mode ${mode} is not there`);
  }
}
