/**
 * Connects through several rulesets in turn, so that what the machine does meanwhile falls on all of them alike. The rulesets are
 * all there at the same time, each in a lab of its own.
 */
import type { ConnectLab } from './connect-lab.ts';

const ROUNDS = 4;

export class ConnectRounds implements AsyncDisposable {
  readonly #entries: { readonly name: string; readonly lab: ConnectLab; readonly target: string }[] = [];
  readonly #stack = new AsyncDisposableStack();

  /** Takes a lab whose rules are in force, and what has to end with it. */
  add(name: string, lab: ConnectLab, target: string, end: () => Promise<void> | void = () => {}): void {
    this.#stack.defer(async () => {
      await end();
      lab[Symbol.dispose]();
    });
    this.#entries.push({ name, lab, target });
  }

  /** Microseconds above a direct connect, by name; the first round warms up. */
  measure(): ReadonlyMap<string, readonly number[]> {
    const samples = new Map<string, number[]>(this.#entries.map(({ name }) => [name, []]));
    for (let round = 0; round <= ROUNDS; round++)
      for (const { name, lab, target } of this.#entries) {
        const measured = lab.measure(target);
        if (round > 0) samples.get(name)!.push(...measured);
      }
    return samples;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
