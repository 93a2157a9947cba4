/**
 * The peer: kube-router's ruleset shape, made from the same objects. A chain per policy with an address set per rule, a chain
 * per local pod that jumps to the chains of its policies and ends in a refusal, and a dispatch by pod address. kube-router
 * writes iptables chains and ipsets with the programs of those names; here the same shape is nftables text for libnftables
 * in this process, which is the faster way to load it. On any event it builds and loads everything anew (its fullPolicySync).
 */
import { fromLabelSelector, matches } from '../../src/kube/selectors.ts';
import type { networkingv1, Pod } from '../../src/kube/types.ts';
import { type BenchState, nodeName } from './state.ts';

export const shapeTable = 'inet kube-router-shape';
export const shapeName = 'kube-router shape (nft)';

const addressOf = (pod: Pod, family: 4 | 6) =>
  pod.status!.podIPs!.find(({ ip }) => ip!.includes(':') === (family === 6))!.ip!;

function peersOf(peers: readonly networkingv1.NetworkPolicyPeer[], namespace: string, state: BenchState): Pod[] {
  const labels = new Map(state.namespaces.map(({ metadata }) => [metadata.name, metadata.labels]));
  return peers.flatMap(({ podSelector, namespaceSelector }) => {
    const pods = fromLabelSelector(podSelector ?? {});
    const spaces = namespaceSelector && fromLabelSelector(namespaceSelector);
    return state.pods.filter(({ metadata }) => {
      const inside = spaces ? matches(spaces, labels.get(metadata.namespace)) : metadata.namespace === namespace;
      return inside && matches(pods, metadata.labels);
    });
  });
}

/** The whole table for one full sync. */
export function renderShape(state: BenchState): string {
  const sets: string[] = [];
  const chains: string[] = [];
  const local = state.pods.filter(({ spec }) => spec.nodeName === nodeName);
  const chainsOfPod = new Map<Pod, string[]>();
  state.policies.forEach(({ metadata, spec }, p) => {
    const selector = fromLabelSelector(spec.podSelector);
    for (const pod of local) {
      if (pod.metadata.namespace !== metadata.namespace || !matches(selector, pod.metadata.labels)) continue;
      chainsOfPod.set(pod, [...(chainsOfPod.get(pod) ?? []), `policy_${p}`]);
    }
    const rules = (spec.ingress ?? []).flatMap(({ from = [], ports = [] }, r) => {
      const peers = peersOf(from, metadata.namespace, state);
      return ([4, 6] as const).flatMap((family) => {
        const name = `src_${p}_${r}_${family}`;
        const elements = [...new Set(peers.map((pod) => addressOf(pod, family)))].join(', ');
        sets.push(`set ${name} { type ipv${family}_addr;${elements ? ` elements = { ${elements} };` : ''} }`);
        const match = `${family === 4 ? 'ip' : 'ip6'} saddr @${name}`;
        return ports.length
          ? ports.map(({ port }) => `${match} tcp dport ${port} meta mark set 0x10000`)
          : [`${match} meta mark set 0x10000`];
      });
    });
    chains.push(`chain policy_${p} { ${rules.join('; ')}; }`);
  });
  const dispatch: string[] = [];
  let n = 0;
  for (const [pod, policies] of chainsOfPod) {
    const jumps = policies.map((chain) => `jump ${chain}; meta mark & 0x10000 == 0x10000 return`);
    chains.push(`chain pod_${n} { ct state established,related accept; ${jumps.join('; ')}; drop; }`);
    dispatch.push(`ip daddr ${addressOf(pod, 4)} jump pod_${n}; ip6 daddr ${addressOf(pod, 6)} jump pod_${n}`);
    n++;
  }
  const forward = `chain forward { type filter hook forward priority filter; ${dispatch.join('; ')}; }`;
  return `table ${shapeTable} {\n${[...sets, ...chains, forward].join('\n')}\n}\n`;
}

export function renderShapeSync(state: BenchState): string {
  return `add table ${shapeTable}\ndelete table ${shapeTable}\n${renderShape(state)}`;
}
