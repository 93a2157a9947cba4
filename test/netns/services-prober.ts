/**
 * A prober in a process of its own, for places whose sockets must not be in the control group of the test's process. Asked by
 * messages; `ProberProcess` is the asking side.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { type FlowClient, type Outcome, type Probe, type Prober, probeIn, udpClientIn } from './services-probes.ts';

type Question = { readonly id: number } & (
  | { readonly ask: 'probe' | 'open'; readonly probe: Probe }
  | { readonly ask: 'flow' | 'close'; readonly flow: number }
);
type Answer = { readonly id: number; readonly outcome?: Outcome; readonly error?: string };

export class ProberProcess implements Prober {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<Outcome | undefined>>();
  #id = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', ({ id, outcome, error }: Answer) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new Error(error));
      else waiting?.resolve(outcome);
    });
  }

  /** Starts it in the namespace, and in the control group that this process is in now. */
  static async start(ns: NetworkNamespace): Promise<ProberProcess> {
    const child = ns.run(() =>
      spawn(process.execPath, [import.meta.filename], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
    );
    await once(child, 'message');
    return new ProberProcess(child);
  }

  async probe(probe: Probe): Promise<Outcome> {
    return (await this.#ask({ ask: 'probe', probe }, ++this.#id))!;
  }

  async udpClient(probe: Probe): Promise<FlowClient> {
    const flow = ++this.#id;
    await this.#ask({ ask: 'open', probe }, flow);
    return {
      ask: async () => (await this.#ask({ ask: 'flow', flow }, ++this.#id))!,
      [Symbol.dispose]: () => void this.#ask({ ask: 'close', flow }, ++this.#id),
    };
  }

  #ask(
    question: { ask: 'probe' | 'open'; probe: Probe } | { ask: 'flow' | 'close'; flow: number },
    id: number,
  ): Promise<Outcome | undefined> {
    const waiting = Promise.withResolvers<Outcome | undefined>();
    this.#waiting.set(id, waiting);
    this.#child.send({ id, ...question } satisfies Question);
    return waiting.promise;
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

async function answer(question: Question, flows: Map<number, FlowClient>): Promise<Outcome | undefined> {
  switch (question.ask) {
    case 'probe':
      return probeIn(undefined, question.probe);
    case 'open':
      flows.set(question.id, await udpClientIn(undefined, question.probe));
      return undefined;
    case 'flow':
      return flows.get(question.flow)?.ask();
    case 'close':
      flows.get(question.flow)?.[Symbol.dispose]();
      flows.delete(question.flow);
      return undefined;
  }
}

if (import.meta.main) {
  const flows = new Map<number, FlowClient>();
  process.on('message', (question: Question) => {
    answer(question, flows).then(
      (outcome) => process.send!({ id: question.id, ...(outcome ? { outcome } : {}) } satisfies Answer),
      (error: unknown) => process.send!({ id: question.id, error: String(error) } satisfies Answer),
    );
  });
  process.on('disconnect', () => process.exit(0));
  process.send!({ id: 0 } satisfies Answer);
}
