/**
 * A compiled BPF object file: its maps and programs in the kernel. What is attached or referred to by something attached
 * outlives the object and the process.
 */
import { KernelError } from '../errors.ts';
import { checkBpf, checkPointer, libbpf, type Pointer } from './libbpf.ts';

export interface LoadOptions {
  /** Sizes by map name, where they differ from the file's. */
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** Maps that exist already, by name: their descriptors are taken instead of making new ones. */
  readonly reuse?: ReadonlyMap<string, number>;
}

/** What of the verifier's log goes into an error: its last lines say what was refused. */
const LOG_BYTES = 256 * 1024;
const LOG_TAIL = 1200;

export class BpfObject implements Disposable {
  readonly #object: Pointer;
  readonly #path: string;
  #open = true;

  private constructor(object: Pointer, path: string) {
    this.#object = object;
    this.#path = path;
  }

  /** Loads maps and programs into the kernel. Throws a KernelError, with the end of the verifier's log if it refused. */
  static load(path: string, { maxEntries = {}, reuse = new Map() }: LoadOptions = {}): BpfObject {
    const lib = libbpf();
    const object = new BpfObject(checkPointer(`open ${path}`, lib.openFile(path, null)), path);
    try {
      for (const [name, count] of Object.entries(maxEntries))
        checkBpf(`size map ${name}`, lib.setMaxEntries(object.#map(name), count));
      for (const [name, fd] of reuse) checkBpf(`take over map ${name}`, lib.reuseFd(object.#map(name), fd));
      object.#load();
      return object;
    } catch (error) {
      object.close();
      throw error;
    }
  }

  #load(): void {
    const lib = libbpf();
    const logs: Buffer[] = [];
    for (let one = lib.nextProgram(this.#object, null); one !== null; one = lib.nextProgram(this.#object, one)) {
      const log = Buffer.alloc(LOG_BYTES);
      logs.push(log);
      checkBpf('set a log buffer', lib.setLogBuffer(one, log, log.length));
    }
    const result = lib.load(this.#object);
    if (result >= 0) return;
    const log = logs.map(textOf).findLast((text) => text !== '');
    throw new KernelError(`load ${this.#path}`, -result, log?.slice(-LOG_TAIL));
  }

  #map(name: string): Pointer {
    return checkPointer(`find map ${name}`, libbpf().findMap(this.#object, name));
  }

  /** The descriptor of a map; it is closed with the object. */
  mapFd(name: string): number {
    return checkBpf(`open map ${name}`, libbpf().mapFd(this.#map(name)));
  }

  /** The descriptor of a program; it is closed with the object. */
  programFd(name: string): number {
    const lib = libbpf();
    const program = checkPointer(`find program ${name}`, lib.findProgram(this.#object, name));
    return checkBpf(`open program ${name}`, lib.programFd(program));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libbpf().close(this.#object);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function textOf(log: Buffer): string {
  const end = log.indexOf(0);
  return log.toString('utf8', 0, end < 0 ? log.length : end).trim();
}
