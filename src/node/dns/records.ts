/** Makes resource records that share a time to live. */
import { familyOf } from '../../base/ip.ts';
import type { ResourceRecord } from './wire.ts';

/** What a name has; a name that exists without records has an empty list. */
export interface Lookup {
  readonly records: readonly ResourceRecord[];
  /** SRV records and the addresses that belong to them: many, and rarely asked for. */
  readonly services?: () => ServiceRecords;
}

export interface ServiceRecords {
  readonly records: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
}

export class Records {
  readonly #ttl: number;

  constructor(ttl: number) {
    this.#ttl = ttl;
  }

  addresses(name: string, addresses: readonly string[]): ResourceRecord[] {
    return addresses.map((address) => ({
      name,
      ttl: this.#ttl,
      type: familyOf(address) === 4 ? 'A' : 'AAAA',
      address,
    }));
  }

  /** All of one priority and weight: clients spread evenly (RFC 2782). */
  service(name: string, target: string, port: number): ResourceRecord {
    return { name, ttl: this.#ttl, type: 'SRV', priority: 0, weight: 100, port, target };
  }

  alias(name: string, target: string): ResourceRecord {
    return { name, ttl: this.#ttl, type: 'CNAME', target };
  }

  pointer(name: string, target: string): ResourceRecord {
    return { name, ttl: this.#ttl, type: 'PTR', target };
  }

  text(name: string, text: string): ResourceRecord {
    return { name, ttl: this.#ttl, type: 'TXT', text };
  }

  nameServer(zone: string, target: string): ResourceRecord {
    return { name: zone, ttl: this.#ttl, type: 'NS', target };
  }

  /** The start of a zone. Nobody transfers it, so the serial number stays; the minimum is what NXDOMAIN is kept for. */
  authority(zone: string, nameServer: string, mailbox: string): ResourceRecord {
    return {
      name: zone,
      ttl: this.#ttl,
      type: 'SOA',
      primary: nameServer,
      mailbox,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      // RFC 2308 section 4.
      minimum: this.#ttl,
    };
  }
}

/** Each record once (RFC 2181 section 5): ports that differ only in protocol, addresses of one hostname give equal ones. */
export function distinct(records: readonly ResourceRecord[]): ResourceRecord[] {
  return [...new Map(records.map((record) => [JSON.stringify(record), record])).values()];
}
