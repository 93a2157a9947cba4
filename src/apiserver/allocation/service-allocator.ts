/**
 * Gives Services their addresses and node ports. Taking is synchronous and happens right before the write, so two creates
 * can never get the same value; what a failed write took is given back. The pools are rebuilt from the stored Services at start.
 */
import { familyOf, isIp, parseIp } from '../../base/ip.ts';
import type { Allocator, ApiObject, Existing, Reservation } from '../resources/kind.ts';
import { needsHealthCheckPort, opensNodePorts, type ServiceDraft } from '../resources/service-types.ts';
import { type FieldError, internalError, invalid, invalidError, path } from '../validation/field.ts';
import { IpPool } from './ip-pool.ts';
import { Pool, staticBandOf } from './pool.ts';
import { completeFamilies } from './service-families.ts';

export interface ServiceAllocatorOptions {
  readonly serviceCidrs: readonly string[];
  readonly nodePortRange: readonly [first: number, last: number];
  readonly random?: (below: number) => number;
}

export interface ServiceAllocator {
  readonly allocator: Allocator;
  /** Notes what a stored Service holds. */
  adopt(service: Existing): void;
}

const at = path('spec');

export function serviceAllocator(options: ServiceAllocatorOptions): ServiceAllocator {
  const pools = new ServicePools(options);
  return {
    allocator: {
      allocate: (object, old) => pools.allocate(object as ServiceDraft, old as ServiceDraft | undefined),
      release: (object) => pools.release(heldBy(object as ServiceDraft)),
    },
    adopt: (service) => pools.adopt(heldBy(service as ApiObject as ServiceDraft)),
  };
}

interface Held {
  readonly addresses: readonly string[];
  readonly ports: readonly number[];
}

function heldBy({ spec }: ServiceDraft): Held {
  const ports = (spec.ports ?? []).flatMap(({ nodePort }) => (nodePort ? [nodePort] : []));
  return {
    addresses: (spec.clusterIPs ?? []).filter(isIp).map(parseIp),
    ports: [...new Set([...ports, ...(spec.healthCheckNodePort ? [spec.healthCheckNodePort] : [])])],
  };
}

class ServicePools {
  readonly #ips: readonly IpPool[];
  readonly #ports: Pool;
  readonly #portRange: string;

  constructor({ serviceCidrs, nodePortRange, random }: ServiceAllocatorOptions) {
    this.#ips = serviceCidrs.map((block) => new IpPool(block, random));
    const [first, last] = nodePortRange;
    const staticBand = staticBandOf(last - first + 1, 32, 16, 128);
    this.#ports = new Pool({ first, last, staticBand, ...(random ? { random } : {}) });
    this.#portRange = `${first}-${last}`;
  }

  adopt({ addresses, ports }: Held): void {
    for (const address of addresses) {
      const pool = this.#poolOf(address);
      if (pool?.contains(address)) pool.take(address);
    }
    for (const port of ports) if (this.#ports.contains(port)) this.#ports.take(port);
  }

  release({ addresses, ports }: Held): void {
    for (const address of addresses) this.#poolOf(address)?.release(address);
    for (const port of ports) this.#ports.release(port);
  }

  #poolOf(address: string): IpPool | undefined {
    return this.#ips.find((pool) => pool.family === familyOf(address));
  }

  allocate(service: ServiceDraft, old: ServiceDraft | undefined): Reservation {
    const before = old ? heldBy(old) : { addresses: [], ports: [] };
    const taken = { addresses: [] as string[], ports: [] as number[] };
    const errors = [
      ...this.#allocateAddresses(service, old, before, taken.addresses),
      ...this.#allocatePorts(service, before, taken.ports),
    ];
    if (errors.length > 0) {
      this.release(taken);
      throw invalidError({ group: '', kind: 'Service' }, service.metadata.name, errors);
    }
    return {
      commit: () => {
        const now = heldBy(service);
        this.release({
          addresses: before.addresses.filter((address) => !now.addresses.includes(address)),
          ports: before.ports.filter((port) => !now.ports.includes(port)),
        });
      },
      rollback: () => this.release(taken),
    };
  }

  #allocateAddresses(
    { spec }: ServiceDraft,
    old: ServiceDraft | undefined,
    before: Held,
    taken: string[],
  ): readonly FieldError[] {
    if (spec.type === 'ExternalName') return [];
    const errors = completeFamilies(
      spec,
      old?.spec,
      this.#ips.map((pool) => pool.family),
    );
    if (errors.length > 0 || spec.clusterIPs?.[0] === 'None') return errors;
    const result: string[] = [];
    for (const [i, family] of (spec.ipFamilies ?? []).entries()) {
      const asked = spec.clusterIPs?.[i];
      const pool = this.#ips.find((other) => (other.family === 4 ? 'IPv4' : 'IPv6') === family)!;
      const address = asked ? this.#takeAsked(pool, asked, spec.clusterIPs, before, taken) : pool.takeAny();
      if (address === undefined)
        return [internalError(at.child('clusterIPs'), 'failed to allocate a serviceIP: range is full')];
      if (typeof address !== 'string') return [address];
      if (!asked) taken.push(address);
      result.push(address);
    }
    spec.clusterIPs = result;
    spec.clusterIP = result[0]!;
    return [];
  }

  #takeAsked(
    pool: IpPool,
    asked: string,
    all: readonly string[] | undefined,
    before: Held,
    taken: string[],
  ): string | FieldError {
    const address = parseIp(asked);
    if (before.addresses.includes(address)) return address;
    const where = at.child('clusterIPs');
    if (!pool.contains(address)) {
      const range = `the provided IP (${asked}) is not in the valid range. The range of valid IPs is ${pool.block}`;
      return invalid(where, all, `failed to allocate IP ${asked}: ${range}`);
    }
    if (!pool.take(address))
      return invalid(where, all, `failed to allocate IP ${asked}: provided IP is already allocated`);
    taken.push(address);
    return address;
  }

  #allocatePorts({ spec }: ServiceDraft, before: Held, taken: number[]): readonly FieldError[] {
    const errors: FieldError[] = [];
    const isOwn = (port: number) => before.ports.includes(port) || taken.includes(port);
    (spec.ports ?? []).forEach(({ nodePort }, i) => {
      if (!nodePort || isOwn(nodePort)) return;
      const error = this.#takePort(nodePort, taken);
      if (error) errors.push(invalid(at.child('ports').index(i).child('nodePort'), nodePort, error));
    });
    const opens =
      opensNodePorts(spec.type) && !(spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts === false);
    if (opens && errors.length === 0) errors.push(...this.#assignPorts(spec, taken));
    if (needsHealthCheckPort(spec) && errors.length === 0) errors.push(...this.#healthCheckPort(spec, isOwn, taken));
    return errors;
  }

  #assignPorts(spec: ServiceDraft['spec'], taken: number[]): FieldError[] {
    for (const [i, port] of (spec.ports ?? []).entries()) {
      if (port.nodePort) continue;
      // The same port for TCP and UDP gets the same node port when that one is free for the other protocol.
      const twin = spec.ports!.find(
        (other) => other.port === port.port && other.protocol !== port.protocol && other.nodePort,
      );
      const number = twin?.nodePort ?? this.#ports.takeAny();
      if (number === undefined)
        return [
          internalError(at.child('ports').index(i).child('nodePort'), 'failed to allocate a nodePort: range is full'),
        ];
      if (!twin) taken.push(number);
      port.nodePort = number;
    }
    return [];
  }

  #healthCheckPort(spec: ServiceDraft['spec'], isOwn: (port: number) => boolean, taken: number[]): FieldError[] {
    const asked = spec.healthCheckNodePort;
    const where = at.child('healthCheckNodePort');
    if (asked) {
      const error = isOwn(asked) ? undefined : this.#takePort(asked, taken);
      return error ? [invalid(where, asked, error)] : [];
    }
    const number = this.#ports.takeAny();
    if (number === undefined) return [internalError(where, 'failed to allocate a nodePort: range is full')];
    taken.push(number);
    spec.healthCheckNodePort = number;
    return [];
  }

  #takePort(port: number, taken: number[]): string | undefined {
    if (!this.#ports.contains(port))
      return `provided port is not in the valid range. The range of valid ports is ${this.#portRange}`;
    if (!this.#ports.take(port)) return 'provided port is already allocated';
    taken.push(port);
    return undefined;
  }
}
