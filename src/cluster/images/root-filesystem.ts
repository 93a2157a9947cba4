/** Collects files into the root filesystem of an image and packs them as a reproducible tar archive. */
import { execFileSync } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { pack } from 'tar-stream';

type Entry =
  | { readonly type: 'directory'; readonly mode: number }
  | { readonly type: 'file'; readonly mode: number; readonly content: Buffer }
  | { readonly type: 'symlink'; readonly target: string };

export class RootFilesystem {
  readonly #entries = new Map<string, Entry>();

  directory(path: string, mode = 0o755): this {
    if (path !== '/' && !this.#entries.has(path)) {
      this.directory(dirname(path));
      this.#entries.set(path, { type: 'directory', mode });
    }
    return this;
  }

  file(path: string, content: string | Buffer, mode = 0o644): this {
    this.directory(dirname(path));
    this.#entries.set(path, { type: 'file', mode, content: Buffer.from(content) });
    return this;
  }

  symlink(path: string, target: string): this {
    this.directory(dirname(path));
    this.#entries.set(path, { type: 'symlink', target });
    return this;
  }

  /** Copies a file of this machine, by default to the same path. */
  copy(source: string, path = source, mode = 0o755): this {
    return this.file(path, readFileSync(source), mode);
  }

  /** Copies a program and every shared library that the dynamic linker loads for it, each under the name it is looked up by. */
  program(source: string, path = source): this {
    this.copy(source, path);
    for (const library of sharedLibraries(source)) this.copy(realpathSync(library), library);
    return this;
  }

  /** The tar archive: entries sorted, times zero, owner root, so that equal content has an equal digest. */
  async toTar(): Promise<Buffer> {
    const archive = pack();
    const mtime = new Date(0);
    for (const [path, entry] of [...this.#entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const name = path.slice(1);
      if (entry.type === 'directory') archive.entry({ name, type: 'directory', mode: entry.mode, mtime });
      else if (entry.type === 'symlink') archive.entry({ name, type: 'symlink', linkname: entry.target, mtime });
      else archive.entry({ name, mode: entry.mode, mtime }, entry.content);
    }
    archive.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of archive) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }
}

/** The paths that `ldd` names; none for a static program. */
function sharedLibraries(program: string): string[] {
  const listed = execFileSync('ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return [...listed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1]!);
}
