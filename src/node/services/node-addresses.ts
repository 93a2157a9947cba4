/**
 * Where NodePorts and host ports are served: what `--nodeport-addresses` says, against the addresses that the node has.
 *
 *     primary      the node's own addresses, one of a family: those of its Node object
 *     localhost    127.0.0.1, for the node's own processes. Not ::1: the kernel looks a route to ::1 up on the interface over
 *                  which a packet came (rt6_need_strict), so that no answer of a pod can ever be delivered there.
 *                  Not in every mode of the proxy: where it is not served it is never among the addresses
 *     all          every address that an interface of the node has, and localhost where it is served
 *     CIDR         those of them that are inside
 */
import { cidrContains, type IpAddress } from '../../base/ip.ts';
import type { NodePortChoice } from '../../base/node-port-choice.ts';
import { familyOfCanonical, usableAddress } from './addresses.ts';

export const LOCALHOST = '127.0.0.1' as IpAddress;

/** As kube-proxy's iptables mode has it: NodePorts are for others at the node's addresses, and for itself at localhost too. */
export const DEFAULT_NODE_PORT_CHOICES: readonly NodePortChoice[] = ['primary', 'localhost'];

/** Whether the interfaces have to be asked, and watched. */
export function needsInterfaces(chosen: readonly NodePortChoice[]): boolean {
  return chosen.some((each) => each === 'all' || typeof each === 'object');
}

export interface AddressesOfNode {
  /** Of the Node object. */
  readonly primary: readonly IpAddress[];
  /** Anything that interfaces have. */
  readonly interfaces: Iterable<IpAddress>;
  /** Whether the rules serve, and guard, 127.0.0.1. */
  readonly servesLocalhost: boolean;
}

/** The addresses, sorted, each once. */
export function chooseNodeAddresses(
  chosen: readonly NodePortChoice[],
  { primary, interfaces, servesLocalhost }: AddressesOfNode,
): readonly IpAddress[] {
  const found = new Set<IpAddress>();
  const servable = [LOCALHOST, ...interfaces].filter(isServable);
  for (const each of chosen) {
    if (each === 'primary') for (const address of primary) found.add(address);
    else if (each === 'localhost') found.add(LOCALHOST);
    else for (const address of servable) if (each === 'all' || cidrContains(each, address)) found.add(address);
  }
  if (!servesLocalhost) found.delete(LOCALHOST);
  return [...found].sort();
}

/** Link-local addresses are a link's, not the node's; of 127.0.0.0/8 only localhost is anybody's. */
function isServable(address: IpAddress): boolean {
  return address === LOCALHOST || usableAddress(address, familyOfCanonical(address)).ok;
}
