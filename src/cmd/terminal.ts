/** What commands print for people: steps with their time, tables, colours where a terminal shows them. */
import colors from 'picocolors';

/** Shows each step of something longer, and how long it took. */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #start = performance.now();
  #step: { text: string; since: number } | undefined;

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream;
  }

  /** Seconds since the beginning, with two digits. */
  get elapsed(): string {
    return ((performance.now() - this.#start) / 1000).toFixed(2);
  }

  /** Begins a step, which ends the one before. */
  step(text: string): void {
    this.done();
    this.#step = { text, since: performance.now() };
    if (this.#stream.isTTY) this.#stream.write(`  ${colors.dim('…')} ${text}`);
  }

  /** Ends the current step. */
  done(mark = colors.green('✓')): void {
    if (!this.#step) return;
    const { text, since } = this.#step;
    this.#step = undefined;
    const seconds = colors.dim(`${((performance.now() - since) / 1000).toFixed(2)} s`);
    this.#stream.write(`${this.#stream.isTTY ? '\r\x1b[2K' : ''}  ${mark} ${text} ${seconds}\n`);
  }

  fail(): void {
    this.done(colors.red('✗'));
  }

  say(text: string): void {
    this.done();
    this.#stream.write(`${text}\n`);
  }
}

/** Columns as wide as their widest cell, two spaces between, as kubectl prints them. */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i]! + 2))
      .join('')
      .trimEnd();
  return [colors.bold(line(header)), ...rows.map(line)].join('\n');
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}
