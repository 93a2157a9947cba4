/**
 * Frontends and their endpoints in the maps, changed one by one while programs read them.
 *
 *     services4/6   address, protocol, port -> n
 *     frontends[n]  kind, first slot, count | whose it is | affinity
 *     slots[first … first+count-1] -> e
 *     endpoints[e]  address, port
 *     members       n, endpoint                          (affinity and UDP only)
 *
 * A program reads a frontend's head (kind, first, count: one 8-byte load), then one slot, then the endpoint. The order of the
 * stores makes each of these steps lead somewhere at any moment: an endpoint is written before its slot, a slot before the
 * head that counts it, a removed endpoint's slot is overwritten or no longer counted before the endpoint is given back, and
 * what is given back keeps its content until no program can look at it.
 */
import { type EndpointText, frontendKey } from '../model.ts';
import { placeSlots } from '../nftables/placement.ts';
import { Blocks, type GracePeriod, Numbers, powerOfTwo, Reclaimer } from './numbers.ts';
import { hasMembers, type SocketFrontend } from './render.ts';
import { encodeHead, encodeMember, encodeServiceKey, MAPS, writeEndpoint, writeFrontend } from './schema.ts';

/** What a hash map of the kernel is here; BpfHash is one. */
export interface HashMap {
  set(key: Uint8Array, value: Uint8Array): void;
  delete(key: Uint8Array): void;
  setAll(keys: Buffer, values: Buffer): void;
  entries(): readonly (readonly [key: Buffer, value: Buffer])[];
}

/** How many of each there is place for. */
export interface Sizes {
  readonly frontends: number;
  readonly slots: number;
  readonly endpoints: number;
  readonly members: number;
}

/** Where the tables are. */
export interface TableMemory {
  readonly sizes: Sizes;
  readonly services4: HashMap;
  readonly services6: HashMap;
  readonly members: HashMap;
  readonly frontends: ArrayBuffer;
  readonly slots: ArrayBuffer;
  readonly endpoints: ArrayBuffer;
  readonly gracePeriod: GracePeriod;
}

/** A frontend in the tables. */
export interface Placed {
  readonly frontend: SocketFrontend;
  /** By slot. */
  readonly endpoints: readonly EndpointText[];
}

interface Place extends Placed {
  readonly number: number;
  readonly first: number;
  /** The length of the run of slots; 0: none. */
  readonly capacity: number;
}

/** Room for what there is, and as much again. */
export function sizesFor(frontends: Iterable<SocketFrontend>): Sizes {
  let count = 0;
  let slots = 0;
  let members = 0;
  const endpoints = new Set<EndpointText>();
  for (const frontend of frontends) {
    count++;
    if (frontend.endpoints.length > 0) slots += powerOfTwo(frontend.endpoints.length);
    if (hasMembers(frontend)) members += frontend.endpoints.length;
    for (const endpoint of frontend.endpoints) endpoints.add(endpoint);
  }
  const room = (needed: number, least: number) => powerOfTwo(Math.max(least, 2 * needed));
  return {
    frontends: room(count, 512),
    slots: room(slots, 1024),
    endpoints: room(endpoints.size, 1024),
    members: room(members, 512),
  };
}

const ONE = Buffer.from([1, 0, 0, 0]);

export class SocketTables {
  readonly #memory: TableMemory;
  readonly #frontendBytes: Uint8Array;
  readonly #heads: BigUint64Array;
  readonly #affinities: Uint32Array;
  readonly #slots: BigUint64Array;
  readonly #endpointBytes: Uint8Array;
  readonly #places = new Map<string, Place>();
  /** Endpoint to its number and to how many frontends have it. */
  readonly #endpoints = new Map<EndpointText, { readonly number: number; users: number }>();
  readonly #frontendNumbers: Numbers;
  readonly #endpointNumbers: Numbers;
  readonly #runs: Blocks;
  readonly #reclaimer: Reclaimer;
  /** Entries written and deleted. */
  writes = 0;

  constructor(memory: TableMemory) {
    this.#memory = memory;
    this.#frontendBytes = new Uint8Array(memory.frontends);
    this.#heads = new BigUint64Array(memory.frontends);
    this.#affinities = new Uint32Array(memory.frontends);
    this.#slots = new BigUint64Array(memory.slots);
    this.#endpointBytes = new Uint8Array(memory.endpoints);
    this.#frontendNumbers = new Numbers(memory.sizes.frontends);
    this.#endpointNumbers = new Numbers(memory.sizes.endpoints);
    this.#runs = new Blocks(memory.sizes.slots);
    this.#reclaimer = new Reclaimer(memory.gracePeriod);
  }

  get size(): number {
    return this.#places.size;
  }

  get(key: string): Placed | undefined {
    return this.#places.get(key);
  }

  /** Fills tables that are empty. Nobody reads them yet. */
  load(frontends: Iterable<SocketFrontend>): void {
    const services = { 4: [[], []], 6: [[], []] } as { readonly [family in 4 | 6]: [Buffer[], Buffer[]] };
    const members: Buffer[] = [];
    for (const frontend of frontends) {
      const place = this.#place(undefined, frontend, (key) => members.push(key));
      this.#places.set(frontendKey(frontend.at), place);
      const [keys, values] = services[frontend.at.family];
      keys.push(encodeServiceKey(frontend.at));
      values.push(number32(place.number));
      this.writes++;
    }
    const { services4, services6 } = this.#memory;
    services4.setAll(Buffer.concat(services[4][0]), Buffer.concat(services[4][1]));
    services6.setAll(Buffer.concat(services[6][0]), Buffer.concat(services[6][1]));
    this.#memory.members.setAll(Buffer.concat(members), Buffer.alloc(members.length * ONE.length, ONE));
  }

  /**
   * Puts a frontend, or takes it away. Throws FullError, or what the kernel says to a hash map that is full: the tables are
   * not to be used any more then.
   */
  change(key: string, after: SocketFrontend | undefined): void {
    const before = this.#places.get(key);
    if (!after) {
      if (before) this.#remove(key, before);
      return;
    }
    const place = this.#place(before, after, (member) => this.#memory.members.set(member, ONE));
    this.#places.set(key, place);
    if (before) return;
    this.writes++;
    this.#services(after).set(encodeServiceKey(after.at), number32(place.number));
  }

  #services({ at }: SocketFrontend): HashMap {
    return at.family === 4 ? this.#memory.services4 : this.#memory.services6;
  }

  /** Writes frontend, slots and endpoints, in the order that readers need. */
  #place(before: Place | undefined, frontend: SocketFrontend, addMember: (key: Buffer) => void): Place {
    const number = before?.number ?? this.#frontendNumbers.take();
    if (!before) writeFrontend(this.#frontendBytes, number * MAPS.frontends.valueSize, frontend.at);
    this.#affinities[number * 8 + 7] = frontend.affinitySeconds;
    const old = before?.endpoints ?? [];
    const endpoints = placeSlots(old, frontend.endpoints);
    const oldMembers = before && hasMembers(before.frontend) ? new Set(old) : new Set<EndpointText>();
    const members = hasMembers(frontend) ? new Set(endpoints) : new Set<EndpointText>();
    for (const text of members) if (!oldMembers.has(text)) this.#count(() => addMember(encodeMember(number, text)));
    const place = { frontend, endpoints, number, ...this.#placeSlots(before, endpoints) };
    Atomics.store(this.#heads, number * 4, encodeHead(frontend.kind, place.first, endpoints.length));
    this.#release(old, endpoints);
    for (const text of oldMembers)
      if (!members.has(text)) this.#count(() => this.#memory.members.delete(encodeMember(number, text)));
    if (before && before.capacity > 0 && (place.capacity === 0 || place.first !== before.first))
      this.#giveBackRun(before);
    return place;
  }

  #count(write: () => void): void {
    this.writes++;
    write();
  }

  /** Stores the slots: in place, or in another run where they do not fit or leave three quarters empty. */
  #placeSlots(before: Place | undefined, endpoints: readonly EndpointText[]): Pick<Place, 'first' | 'capacity'> {
    const count = endpoints.length;
    const { first = 0, capacity = 0 } = before ?? {};
    if (count === 0) return { first: 0, capacity: 0 };
    const fits = count <= capacity && (count > capacity / 4 || capacity <= 4);
    const length = powerOfTwo(count);
    const run = fits ? { first, capacity } : { first: this.#runs.take(length), capacity: length };
    const old = before?.endpoints ?? [];
    const kept = new Set(old);
    endpoints.forEach((text, slot) => {
      const number = kept.has(text) ? this.#endpoints.get(text)!.number : this.#acquire(text);
      if (fits && old[slot] === text) return;
      this.writes++;
      Atomics.store(this.#slots, run.first + slot, BigInt(number));
    });
    return run;
  }

  /** The number of an endpoint, for one more frontend. */
  #acquire(text: EndpointText): number {
    const known = this.#endpoints.get(text);
    if (known) {
      known.users++;
      return known.number;
    }
    const number = this.#endpointNumbers.take();
    writeEndpoint(this.#endpointBytes, number * MAPS.endpoints.valueSize, text);
    this.writes++;
    this.#endpoints.set(text, { number, users: 1 });
    return number;
  }

  #release(before: readonly EndpointText[], after: readonly EndpointText[]): void {
    if (before === after || before.length === 0) return;
    const kept = new Set(after);
    for (const text of before) {
      if (kept.has(text)) continue;
      const known = this.#endpoints.get(text)!;
      if (--known.users > 0) continue;
      this.#endpoints.delete(text);
      this.#reclaimer.retire(() => this.#endpointNumbers.giveBack(known.number));
    }
  }

  #giveBackRun({ first, capacity }: Place): void {
    this.#reclaimer.retire(() => this.#runs.giveBack(first, capacity));
  }

  #remove(key: string, place: Place): void {
    this.writes++;
    this.#services(place.frontend).delete(encodeServiceKey(place.frontend.at));
    Atomics.store(this.#heads, place.number * 4, encodeHead('pass', 0, 0));
    this.#places.delete(key);
    this.#release(place.endpoints, []);
    if (hasMembers(place.frontend))
      for (const text of place.endpoints)
        this.#count(() => this.#memory.members.delete(encodeMember(place.number, text)));
    if (place.capacity > 0) this.#giveBackRun(place);
    this.#reclaimer.retire(() => this.#frontendNumbers.giveBack(place.number));
  }
}

function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
