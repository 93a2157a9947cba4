/**
 * The node's addresses for NodePorts and host ports, as chosen, followed through changes of its interfaces; and the one switch
 * of the kernel that 127.0.0.1 among them needs.
 *
 * With net.ipv4.conf.all.route_localnet the kernel routes packets of 127.0.0.1, which the rules then masquerade. It would also
 * take such packets from outside (CVE-2020-8558), but for the rules' guard: so it is switched on after the rules are there, and
 * never for rules that have none.
 */
import { type IpAddress, parseIp } from '../../base/ip.ts';
import type { NodePortChoice } from '../../base/node-port-choice.ts';
import type { NetworkNamespace } from '../../linux/netns.ts';
import type { Rtnetlink } from '../../linux/rtnetlink.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import { chooseNodeAddresses, LOCALHOST, needsInterfaces } from './node-addresses.ts';

export interface NodePortPlacesOptions {
  readonly chosen: readonly NodePortChoice[];
  /** The addresses of the Node object. */
  readonly primary: readonly string[];
  /** Whether the rules serve 127.0.0.1 and guard what that opens; otherwise it is no place, whatever is chosen. */
  readonly servesLocalhost: boolean;
  readonly netlink: Pick<Rtnetlink, 'addresses' | 'monitor'>;
  /** Where the rules are; default the process's own. */
  readonly ns?: NetworkNamespace;
}

export class NodePortPlaces {
  readonly #options: NodePortPlacesOptions;
  readonly #primary: readonly IpAddress[];
  #addresses: readonly IpAddress[];

  constructor(options: NodePortPlacesOptions) {
    this.#options = options;
    this.#primary = options.primary.map(parseIp);
    this.#addresses = this.#choose();
  }

  get addresses(): readonly IpAddress[] {
    return this.#addresses;
  }

  /** Call it when the rules are in force. Tells of other addresses until the signal aborts. */
  start(onChange: (addresses: readonly IpAddress[]) => void, signal: AbortSignal): void {
    this.#allowLoopback();
    if (!needsInterfaces(this.#options.chosen)) return;
    const look = () => {
      const next = this.#choose();
      if (next.join() === this.#addresses.join()) return;
      this.#addresses = next;
      this.#allowLoopback();
      onChange(next);
    };
    const monitor = this.#options.netlink.monitor({ addresses: true }, look, look);
    signal.addEventListener('abort', () => monitor.close(), { once: true });
    look();
  }

  #choose(): readonly IpAddress[] {
    const { chosen, netlink, servesLocalhost } = this.#options;
    const interfaces = needsInterfaces(chosen) ? netlink.addresses().map(({ address }) => address) : [];
    return chooseNodeAddresses(chosen, { primary: this.#primary, interfaces, servesLocalhost });
  }

  #allowLoopback(): void {
    if (this.#addresses.includes(LOCALHOST)) writeSysctl(this.#options.ns, 'net.ipv4.conf.all.route_localnet', 1);
  }
}
