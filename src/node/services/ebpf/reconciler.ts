/**
 * The mode ebpf: sockets of the node's own control group are translated when they connect (tables.ts, programs.ts), and every
 * packet that was not is met by the rules of another mode, which holds all Services as well. So nothing is lost while
 * programs are loaded, replaced or gone, and processes outside of the control group (`podwire node exec`) are served too.
 *
 * The packet's rules change first: what a socket is no longer translated to must be answered by them.
 */
import { messageOf } from '../../../base/errors.ts';
import { Claims } from '../claims.ts';
import type { ClusterAddresses, KeyedModel, OpenRules, RulesContext, RulesStats, ServiceRules } from '../rules.ts';
import { expectedListing, tableListing } from './listing.ts';
import { detachPrograms, loadPrograms, type ProgramFiles, type SocketPrograms } from './programs.ts';
import { renderFrontend, type SocketFrontend } from './render.ts';
import { SocketTables, sizesFor } from './tables.ts';
import { UdpSockets } from './udp-sockets.ts';

export interface EbpfOptions extends ProgramFiles {
  /** The rules for packets. */
  readonly packets: OpenRules;
}

export function ebpfRules(options: EbpfOptions): OpenRules {
  return (context) => new SocketRules(options, context);
}

/** The programs in force and their tables. */
interface Loaded {
  readonly programs: SocketPrograms;
  readonly tables: SocketTables;
}

export class SocketRules implements ServiceRules {
  readonly #options: EbpfOptions;
  readonly #context: RulesContext;
  readonly #packets: ServiceRules;
  readonly #claims = new Claims();
  readonly #udp: UdpSockets;
  #loaded: Loaded | undefined;
  /** Whether the kernel may have lost what was loaded. */
  #isStale = false;
  #writes = 0;
  readonly #counts = { transactions: 0, rebuilds: 0, failures: 0 };

  constructor(options: EbpfOptions, context: RulesContext) {
    this.#options = options;
    this.#context = context;
    this.#packets = options.packets(context);
    this.#udp = new UdpSockets({
      cgroup: options.cgroup,
      list: () => this.#loaded?.programs.udpSockets() ?? [],
      endpointsOf: (frontend) => this.#loaded?.tables.get(frontend)?.endpoints,
      log: context.log,
    });
  }

  async apply(models: Iterable<KeyedModel>): Promise<void> {
    const list = [...models];
    const dirty = new Set<string>();
    for (const [key, model] of list) this.#claims.set(key, model, dirty);
    try {
      await this.#packets.apply(list);
    } finally {
      this.#applyToSockets(dirty);
    }
  }

  #applyToSockets(dirty: ReadonlySet<string>): void {
    if (!this.#loaded || this.#isStale) return this.#load();
    if (dirty.size === 0) return;
    const { tables } = this.#loaded;
    const before = tables.writes;
    try {
      for (const id of dirty) this.#change(id, tables);
      if (tables.writes > before) this.#counts.transactions++;
      this.#udp.clear();
    } catch (error) {
      // An array or a map is full, most likely: larger ones are made.
      this.#context.log.info({ error }, `Services at the socket: writing all anew: ${messageOf(error)}`);
      this.#load();
    }
  }

  #change(id: string, tables: SocketTables): void {
    const before = tables.get(id);
    const frontend = this.#claims.winner(id);
    tables.change(id, frontend && renderFrontend(frontend));
    if (before?.frontend.at.protocol === 'udp') this.#udp.note(before.endpoints, tables.get(id)?.endpoints ?? []);
  }

  /** Loads programs with tables of their own, fills these, and puts them in the place of what is there. */
  #load(): void {
    this.#counts.rebuilds++;
    let programs: SocketPrograms | undefined;
    try {
      const frontends = this.#render();
      programs = loadPrograms(this.#options, sizesFor(frontends));
      const tables = new SocketTables(programs.memory);
      tables.load(frontends);
      programs.attach();
      const before = this.#loaded;
      this.#loaded = { programs, tables };
      this.#isStale = false;
      this.#writes += before?.tables.writes ?? 0;
      before?.programs.close();
    } catch (error) {
      this.#counts.failures++;
      this.#isStale = true;
      programs?.close();
      throw error;
    }
    this.#udp.clearAll();
  }

  #render(): readonly SocketFrontend[] {
    const frontends: SocketFrontend[] = [];
    for (const id of this.#claims.frontendKeys()) {
      const rendered = renderFrontend(this.#claims.winner(id)!);
      if (rendered) frontends.push(rendered);
    }
    return frontends;
  }

  get leftovers(): number {
    return this.#packets.leftovers;
  }

  isIntact(): boolean {
    return this.#packets.isIntact() && (this.#isStale || !this.#loaded || this.#loaded.programs.isAttached());
  }

  invalidate(): void {
    this.#isStale = true;
    this.#packets.invalidate();
  }

  setAddresses(addresses: ClusterAddresses): void {
    this.#packets.setAddresses(addresses);
  }

  endpointsOf(frontend: string): readonly string[] {
    return this.#packets.endpointsOf(frontend);
  }

  get services(): number {
    return this.#packets.services;
  }

  get frontends(): number {
    return this.#packets.frontends;
  }

  /** The rules that packets meet. */
  get packets(): ServiceRules {
    return this.#packets;
  }

  /** What the programs find in the kernel, and what they should find; for comparison. */
  get listings(): { readonly found: readonly string[]; readonly expected: readonly string[] } {
    const found = this.#loaded ? tableListing(this.#loaded.programs.memory) : [];
    return { found, expected: expectedListing(this.#render()) };
  }

  get stats(): RulesStats {
    const { transactions, elements, rebuilds, failures } = this.#packets.stats;
    return {
      transactions: transactions + this.#counts.transactions,
      elements: elements + this.#writes + (this.#loaded?.tables.writes ?? 0),
      rebuilds: rebuilds + this.#counts.rebuilds,
      failures: failures + this.#counts.failures,
    };
  }

  /** Ends what this process does by itself; what is in the kernel stays in force. */
  close(): void {
    this.#udp.stop();
    this.#loaded?.programs.close();
    this.#loaded = undefined;
  }

  remove(): void {
    this.close();
    detachPrograms(this.#options.cgroup);
    this.#packets.remove();
  }
}
