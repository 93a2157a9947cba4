/**
 * nftables in this process, through libnftables: the `nft` language without the `nft` process.
 *
 * A context holds the netlink socket of the namespace it was opened in. Opening the first one costs 3-16 ms (loading
 * the library and its symbol tables), a later one 0.1 ms more than a transaction in an open one (0.07-0.3 ms), but it
 * keeps 0.5 MB for each table of the namespace: it is freed when it has not been used for a while, and made again by
 * the next use. A refused transaction costs 8-20 ms: the kernel waits for RCU to take it back.
 *
 * `run` is one transaction: the kernel applies all of the text or nothing. `runAsync` does the same on a pool thread.
 * A pool thread stays in the process's own namespace, and libnftables resolves `iif`/`oif` interface names in the
 * namespace of the thread that evaluates the text (`iifname`/`oifname` compare text and are free of this). Such texts
 * for another namespace are therefore run synchronously inside it.
 *
 * `elements` is the way for elements alone, many or often: it does without the library and its text.
 */
import koffi from 'koffi';
import { ERRNO, KernelError } from './errors.ts';
import { libc } from './libc.ts';
import { NetworkNamespace } from './netns.ts';
import { SetElements } from './set-elements.ts';

/** libnftables' soname has been the same since 0.9. */
const LIBRARY = 'libnftables.so.1';

// nftables/libnftables.h
const NFT_CTX_DEFAULT = 0;
const NFT_CTX_OUTPUT_JSON = 1 << 4;

/** A context that is unused for longer is freed, milliseconds. */
const UNUSED_MS = 5_000;

/** How much of nft's complaint goes into an error: it repeats the offending lines, which may be megabytes. */
const MESSAGE_LIMIT = 4096;

type Context = bigint | object;

interface Library {
  readonly ctxNew: (flags: number) => Context | null;
  readonly ctxFree: (context: Context) => void;
  readonly bufferOutput: (context: Context) => number;
  readonly bufferError: (context: Context) => number;
  readonly outputBuffer: (context: Context) => string | null;
  readonly errorBuffer: (context: Context) => string | null;
  readonly setFlags: (context: Context, flags: number) => void;
  readonly runBuffer: ((context: Context, text: Uint8Array) => number) & {
    async: (context: Context, text: Uint8Array, done: (error: unknown, result: number) => void) => void;
  };
}

let loaded: Library | undefined;

/** Loads libnftables at first use. Throws a KernelError with ENOSYS when it is not installed. */
function library(): Library {
  loaded ??= loadLibrary();
  return loaded;
}

function loadLibrary(): Library {
  let lib: ReturnType<typeof koffi.load>;
  try {
    lib = koffi.load(LIBRARY);
  } catch {
    throw new KernelError('load nftables', ERRNO['ENOSYS']!, `${LIBRARY} is not installed (Debian: libnftables1)`);
  }
  return {
    ctxNew: lib.func('void *nft_ctx_new(uint32_t flags)'),
    ctxFree: lib.func('void nft_ctx_free(void *context)'),
    bufferOutput: lib.func('int nft_ctx_buffer_output(void *context)'),
    bufferError: lib.func('int nft_ctx_buffer_error(void *context)'),
    outputBuffer: lib.func('const char *nft_ctx_get_output_buffer(void *context)'),
    errorBuffer: lib.func('const char *nft_ctx_get_error_buffer(void *context)'),
    setFlags: lib.func('void nft_ctx_output_set_flags(void *context, unsigned int flags)'),
    runBuffer: lib.func('int nft_run_cmd_from_buffer(void *context, const void *text)'),
  };
}

/** Whether libnftables can be loaded here. */
export function hasLibnftables(): boolean {
  try {
    library();
    return true;
  } catch {
    return false;
  }
}

export class Nftables implements Disposable {
  readonly #ns: NetworkNamespace;
  /** Whether #ns is the one the process (and so its pool threads) lives in. */
  readonly #isHome: boolean;
  #context: Context | undefined;
  #unused: NodeJS.Timeout | undefined;
  #isClosed = false;
  #elements: SetElements | undefined;
  /** The last runAsync in the queue; never rejects. */
  #queue: Promise<void> = Promise.resolve();
  /** A pool thread works with the context at this moment. */
  #working = false;
  /** Asynchronous runs that have not ended. */
  #pending = 0;

  private constructor(ns: NetworkNamespace, isHome: boolean, context: Context) {
    this.#ns = ns;
    this.#isHome = isHome;
    this.#context = context;
  }

  /** Opens a context inside the namespace, or in the current one. */
  static open(ns?: NetworkNamespace): Nftables {
    using home = NetworkNamespace.current();
    const own = (ns ?? home).duplicate();
    try {
      return new Nftables(own, own.inode === home.inode, own.run(newContext));
    } catch (error) {
      own.close();
      throw error;
    }
  }

  /** Runs nft commands as one transaction: all are applied, or none and a KernelError with nft's message is thrown. */
  run(text: string): void {
    this.#runHere(terminated(text), text);
  }

  /**
   * As `run`, but a pool thread does the work and the event loop goes on. Calls on one context follow each other in
   * order; `run` and `list` refuse while one is being worked on.
   */
  runAsync(text: string): Promise<void> {
    this.#pending++;
    const turn = this.#queue.then(() => this.#runInPool(text)).finally(() => this.#pending--);
    this.#queue = turn.catch(() => {});
    return turn;
  }

  /** Changes of elements by raw nfnetlink in the same namespace; a socket of its own, opened at the first use. */
  get elements(): SetElements {
    this.#elements ??= SetElements.open(this.#ns);
    return this.#elements;
  }

  /** Text as `nft list` prints it: `list('table inet podwire')`, `list('ruleset')`. */
  list(what: string): string {
    const command = `list ${what}`;
    return this.#runHere(terminated(command), command);
  }

  /** What `nft -j list` prints: the objects of its "nftables" array, without the one that tells the version. */
  listJson(what: string): unknown[] {
    library().setFlags(this.#idle(), NFT_CTX_OUTPUT_JSON);
    try {
      const { nftables } = JSON.parse(this.list(what)) as { nftables: object[] };
      return nftables.filter((item) => !('metainfo' in item));
    } finally {
      library().setFlags(this.#idle(), 0);
    }
  }

  /** Frees the context, as soon as what runAsync has in its queue is done. */
  close(): void {
    if (this.#isClosed) return;
    if (this.#pending > 0) {
      void this.#queue.then(() => this.close());
      return;
    }
    this.#isClosed = true;
    clearTimeout(this.#unused);
    this.#elements?.close();
    this.#free();
    this.#ns.close();
  }

  #free(): void {
    const context = this.#context;
    if (context === undefined || this.#working) return;
    this.#context = undefined;
    library().ctxFree(context);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #runHere(bytes: Buffer, text: string): string {
    const context = this.#idle();
    const result = this.#ns.run(() => library().runBuffer(context, bytes));
    return takeOutput(context, result, text);
  }

  #runInPool(text: string): Promise<void> | undefined {
    const bytes = terminated(text);
    if (!this.#isHome && namesInterfaceIndex(text)) {
      this.#runHere(bytes, text);
      return undefined;
    }
    const context = this.#idle();
    this.#working = true;
    return new Promise((resolve, reject) => {
      library().runBuffer.async(context, bytes, (error, result) => {
        this.#working = false;
        this.#unused?.refresh();
        try {
          if (error) throw error;
          // Read here, which also keeps `bytes` alive until the thread is done with it.
          takeOutput(context, bytes.length > 0 ? result : -1, text);
          resolve();
        } catch (failure) {
          reject(failure);
        }
      });
    });
  }

  /** The context, if nobody else uses it now. */
  #idle(): Context {
    if (this.#isClosed) throw new Error('the nftables context is closed');
    if (this.#working) throw new KernelError('run nft', ERRNO['EBUSY']!, 'an asynchronous transaction is running');
    this.#context ??= this.#ns.run(newContext);
    // A transaction in a pool thread that takes longer starts the time anew by its end.
    if (this.#unused) this.#unused.refresh();
    else this.#unused = setTimeout(() => this.#free(), UNUSED_MS).unref();
    return this.#context;
  }
}

function newContext(): Context {
  const nft = library();
  const context = nft.ctxNew(NFT_CTX_DEFAULT);
  if (context === null) throw new KernelError('open nftables', ERRNO['ENOMEM']!);
  nft.bufferOutput(context);
  nft.bufferError(context);
  return context;
}

/** The text as C has it. A NUL inside would silently cut off the rest. */
function terminated(text: string): Buffer {
  if (text.includes('\0')) throw new TypeError('nft commands with a NUL character');
  return Buffer.from(`${text}\0`);
}

/** Whether the text may resolve an interface's name to its index. */
function namesInterfaceIndex(text: string): boolean {
  return /\b[io]if\b/.test(text);
}

/** Empties both buffers of the context; throws when the run failed. */
function takeOutput(context: Context, result: number, text: string): string {
  const nft = library();
  const complaint = nft.errorBuffer(context) ?? '';
  const output = nft.outputBuffer(context) ?? '';
  if (result === 0) return output;
  throw nftError(text, complaint.trim());
}

function nftError(text: string, complaint: string): KernelError {
  const firstLine = text.trimStart().split('\n', 1)[0]!.slice(0, 120);
  const message = complaint.length > MESSAGE_LIMIT ? `${complaint.slice(0, MESSAGE_LIMIT)} …` : complaint;
  return new KernelError(`nft ${firstLine}`, errnoOf(complaint), message || undefined);
}

/**
 * nft prints the errno's text only: "Error: Could not process rule: No such file or directory". Everything else that
 * it complains about (syntax, unknown names in the text) is EINVAL.
 */
function errnoOf(complaint: string): number {
  const words = /Error: (?:[^\n]*: )?([^\n:;]+)/.exec(complaint)?.[1]?.trim();
  return (words !== undefined && errnoByText().get(words)) || ERRNO['EINVAL']!;
}

let byText: ReadonlyMap<string, number> | undefined;

function errnoByText(): ReadonlyMap<string, number> {
  byText ??= new Map(Object.values(ERRNO).map((errno) => [libc.strerror(errno), errno]));
  return byText;
}
