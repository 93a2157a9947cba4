/** A reason of the oracle in one line for people. */
import type { Reason } from '../../node/policy/oracle.ts';

export function reasonText(reason: Reason): string {
  const { cause, pod, policies, rules, tiers = [], direction } = reason;
  const decided = tiers.at(-1);
  const passed = tiers.filter(({ action }) => action === 'Pass').map((each) => tierText(each));
  const after = passed.length && cause !== 'admin' && cause !== 'baseline' ? `, after ${passed.join(' and ')}` : '';
  switch (cause) {
    case 'established':
      return 'a reply of a connection that was allowed when it began';
    case 'itself':
      return 'a pod always reaches itself';
    case 'own-node':
      return `pod ${pod ?? ''} and its own node always reach each other`;
    case 'not-a-pod':
      return 'no pod: policies do not judge it';
    case 'not-isolated':
      return `no policy isolates pod ${pod} for ${direction}${after}`;
    case 'contested-address':
      return 'two pods claim the address: it is isolated until one lets go';
    case 'rule': {
      const [first, ...more] = rules;
      const also = more.length ? `, and ${more.length} more rule${more.length > 1 ? 's' : ''}` : '';
      return `${first!.peer ?? first!.rule} of policy ${first!.policy}${also}${after}`;
    }
    case 'no-rule':
      return `pod ${pod} is isolated by ${policies.join(', ')}; no rule allows it${after}`;
    case 'admin':
    case 'baseline':
      return decided ? tierText(decided) : `the ${cause} tier`;
  }
}

function tierText({ rule, ruleName, policy, tier, priority, action }: NonNullable<Reason['tiers']>[number]): string {
  const name = ruleName ? ` (${ruleName})` : '';
  return `${rule}${name} of ClusterNetworkPolicy ${policy}, ${tier} tier, priority ${priority}: ${action}`;
}
