/** The modes of the proxy: what puts a node's Services into its kernel. Only the code of the chosen mode is loaded. */
import type { ProxyMode } from '../cluster/proxy-mode.ts';
import type { OpenRules } from '../node/services/rules.ts';

/** The rules of a mode, in the network namespace of this process. */
export async function openRules(mode: ProxyMode): Promise<OpenRules> {
  switch (mode) {
    case 'nftables': {
      const [{ nftablesRules }, { Nftables }] = await Promise.all([
        import('../node/services/nftables/reconciler.ts'),
        import('../linux/nftables.ts'),
      ]);
      return nftablesRules(Nftables.open());
    }
    case 'iptables':
    case 'ipvs':
    case 'ebpf':
      throw new Error(`the proxy mode ${mode} is not there`);
  }
}
