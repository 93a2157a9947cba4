/**
 * Refuses at once what is sent to ports of a load balancer's address that no Service has. Such a packet is translated by
 * nobody; without this it would be routed back onto the wire, to this very node, and the client would wait in vain.
 *
 *     client --> node: DNAT in prerouting?  yes: another destination, untouched here
 *                                           no:  forward, output: destination still @addresses -> reset, or ICMP
 */
import { messageOf } from '../../base/errors.ts';
import type { IpAddress } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Nftables } from '../../linux/nftables.ts';

const TABLE = 'inet podwire-announce';

/** One transaction that replaces the table. Neighbour discovery passes: it is neither TCP nor UDP. */
export function renderUnusedPorts(addresses: readonly IpAddress[]): string {
  const elements = (list: readonly IpAddress[]) => (list.length > 0 ? ` elements = { ${list.join(', ')} };` : '');
  const of = (isV6: boolean) => addresses.filter((address) => address.includes(':') === isV6).sort();
  const hook = (name: string) => `  chain ${name} {
    type filter hook ${name} priority filter; policy accept;
    ip daddr @addresses4 goto refuse
    ip6 daddr @addresses6 goto refuse
  }
`;
  return `add table ${TABLE}
delete table ${TABLE}
table ${TABLE} {
  set addresses4 { type ipv4_addr;${elements(of(false))} }
  set addresses6 { type ipv6_addr;${elements(of(true))} }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject
  }
${hook('forward')}${hook('output')}}
`;
}

export class UnusedPorts {
  readonly #nft: Pick<Nftables, 'run'>;
  readonly #log: Logger;
  #applied: ReadonlySet<IpAddress> | undefined;

  constructor({ nft, log }: { readonly nft: Pick<Nftables, 'run'>; readonly log: Logger }) {
    this.#nft = nft;
    this.#log = log;
  }

  /** Refuses for these addresses and no others. A failure is logged, and all is written anew the next time. */
  set(addresses: readonly IpAddress[]): void {
    try {
      const text = this.#applied ? this.#difference(this.#applied, new Set(addresses)) : renderUnusedPorts(addresses);
      if (text !== '') this.#nft.run(text);
      this.#applied = new Set(addresses);
    } catch (error) {
      this.#log.warn({ error }, `unused ports of load balancers: ${messageOf(error)}`);
      this.#applied = undefined;
    }
  }

  #difference(before: ReadonlySet<IpAddress>, after: ReadonlySet<IpAddress>): string {
    const lines = (verb: string, list: ReadonlySet<IpAddress>) =>
      [...list].sort().map((address) => {
        const set = address.includes(':') ? 'addresses6' : 'addresses4';
        return `${verb} element ${TABLE} ${set} { ${address} }\n`;
      });
    return [...lines('delete', before.difference(after)), ...lines('add', after.difference(before))].join('');
  }
}
