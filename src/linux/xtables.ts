/**
 * iptables of one network namespace: text to `iptables-restore`, text from `iptables-save`, and cheap questions to the kernel
 * without a process. There is no other interface to it: the kernel's own one takes and gives whole tables in a private layout, so
 * a change costs a process (3 ms) and, with the legacy kind, a copy of the table in both directions.
 */
import { execFileSync } from 'node:child_process';
import { CommandError, runCommand } from '../base/command.ts';
import type { Family } from '../base/ip.ts';
import { hasCode } from './errors.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink/socket.ts';
import { MessageWriter } from './netlink/writer.ts';
import { type NetworkNamespace, runIn } from './netns.ts';
import { findXtables, legacyTableSize, type XtablesKind } from './xtables/kernel.ts';

export type XtablesTable = 'raw' | 'mangle' | 'filter' | 'nat';
export const XTABLES_TABLES: readonly XtablesTable[] = ['raw', 'mangle', 'filter', 'nat'];

export interface XtablesOptions {
  /** Default: the namespace of the process. */
  readonly ns?: NetworkNamespace;
  /**
   * The legacy programs take turns by this file. Default their own, /run/xtables.lock, which everybody on a machine shares; tables
   * belong to a namespace, so whoever has a namespace for himself does better with a file of his own.
   */
  readonly lockFile?: string;
  /** Default: what the kernel has, legacy before nft. */
  readonly kind?: XtablesKind;
}

/** How long a program waits for the lock, in seconds. */
const WAIT_SECONDS = '10';
const NFNL_SUBSYS_NFTABLES = 10 << 8;
const NFT_MSG_GETCHAIN = NFNL_SUBSYS_NFTABLES | 4;
// linux/netfilter/nf_tables.h
const NFTA_CHAIN = { table: 1, name: 3 } as const;
const TIMEOUT_MS = 120_000;

export class Xtables implements Disposable {
  readonly kind: XtablesKind;
  readonly #ns: NetworkNamespace | undefined;
  readonly #env: NodeJS.ProcessEnv;
  #socket: NetlinkSocket | undefined;

  private constructor(options: XtablesOptions) {
    this.#ns = options.ns;
    this.kind = options.kind ?? findXtables(options.ns);
    const path = [process.env['PATH'], '/usr/sbin', '/sbin'].filter(Boolean).join(':');
    this.#env = { PATH: path, ...(options.lockFile ? { XTABLES_LOCKFILE: options.lockFile } : {}) };
  }

  /** Throws a KernelError where the kernel has neither kind. */
  static open(options: XtablesOptions = {}): Xtables {
    return new Xtables(options);
  }

  /**
   * Applies the input of `iptables-restore --noflush`: each table's part is one transaction, in their order. Throws a CommandError
   * with the program's words; parts before the refused one are in force then.
   */
  async restore(family: Family, input: string): Promise<void> {
    const argv = this.#argv(family, 'restore', '--noflush', ...this.#wait);
    const { exitCode, stdout, stderr } = await this.#run(argv, input);
    if (exitCode !== 0) throw new CommandError(argv, exitCode, stdout, stderr);
  }

  /** The same, before it returns. */
  restoreNow(family: Family, input: string): void {
    const [program, ...args] = this.#argv(family, 'restore', '--noflush', ...this.#wait);
    runIn(this.#ns, () => execFileSync(program, args, { input, env: this.#env, stdio: 'pipe', timeout: TIMEOUT_MS }));
  }

  /** A table as `iptables-save` writes it, without comments and counters. */
  async save(family: Family, table: XtablesTable): Promise<string> {
    const argv = this.#argv(family, 'save', '-t', table);
    const { exitCode, stdout, stderr } = await this.#run(argv);
    if (exitCode !== 0) throw new CommandError(argv, exitCode, stdout, stderr);
    return withoutNoise(stdout);
  }

  /** The same, before it returns. */
  saveNow(family: Family, table: XtablesTable): string {
    const [program, ...args] = this.#argv(family, 'save', '-t', table);
    const options = { env: this.#env, stdio: 'pipe', timeout: TIMEOUT_MS, maxBuffer: 1 << 30 } as const;
    return withoutNoise(runIn(this.#ns, () => execFileSync(program, args, options)).toString());
  }

  /**
   * A measure of a table that shrinks when somebody flushes it: bytes of rules (legacy), or whether the chain is there (nft). Takes
   * microseconds and no process.
   */
  extent(family: Family, table: XtablesTable, chain: string): number {
    if (this.kind === 'legacy') return legacyTableSize(family, table, this.#ns);
    return this.#hasChain(family, table, chain) ? 1 : 0;
  }

  #hasChain(family: Family, table: XtablesTable, chain: string): boolean {
    this.#socket ??= NetlinkSocket.open(NETLINK_NETFILTER, this.#ns);
    const writer = new MessageWriter().message(NFT_MSG_GETCHAIN);
    writer
      .u8(family === 4 ? AF_INET : AF_INET6)
      .u8(0)
      .u16(0);
    try {
      this.#socket.request(
        writer.attrString(NFTA_CHAIN.table, table).attrString(NFTA_CHAIN.name, chain),
        'find a chain',
      );
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  /** iptables-nft has no lock to wait for, and says so when it is asked. */
  get #wait(): readonly string[] {
    return this.kind === 'legacy' ? ['-w', WAIT_SECONDS] : [];
  }

  #argv(family: Family, verb: 'restore' | 'save', ...args: readonly string[]): readonly [string, ...string[]] {
    return [`${family === 4 ? 'iptables' : 'ip6tables'}-${this.kind}-${verb}`, ...args];
  }

  #run(argv: readonly [string, ...string[]], input = '') {
    // A child belongs to the namespace in which it was started, whenever it ends.
    const started = runIn(this.#ns, () => ({
      done: runCommand(argv, { input, env: this.#env, timeoutMs: TIMEOUT_MS }),
    }));
    return started.done;
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function withoutNoise(text: string): string {
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.replace(/ \[\d+:\d+\]$/, ''))
    .join('\n');
}
