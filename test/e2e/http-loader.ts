/**
 * Sends HTTP requests as fast as a number of connections allows, each over a connection of its own, until its standard input
 * ends; then prints what became of them as JSON. Run inside a network namespace: `node http-loader.ts ADDRESS PORT CONNECTIONS`.
 */
import { connect } from 'node:net';

export interface LoadReport {
  readonly requests: number;
  /** By what went wrong: "ECONNREFUSED", "timeout", "incomplete answer" … */
  readonly failures: Readonly<Record<string, number>>;
  /** By the host that answered, as the second word of the body says. */
  readonly answers: Readonly<Record<string, number>>;
  /** Milliseconds of the slowest request. */
  readonly slowest: number;
}

const TIMEOUT_MS = 10_000;

const [address, port, connections] = process.argv.slice(2) as [string, string, string];
const failures: Record<string, number> = {};
const answers: Record<string, number> = {};
let requests = 0;
let slowest = 0;
let ending = false;

/** One request; resolves with what went wrong, if anything did. */
function request(): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect({ host: address, port: Number(port), noDelay: true });
    socket.setTimeout(TIMEOUT_MS, () => {
      socket.destroy();
      resolve('timeout');
    });
    socket.setEncoding('latin1');
    socket.on('connect', () => socket.write('GET / HTTP/1.0\r\n\r\n'));
    socket.on('data', (chunk: string) => {
      text += chunk;
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('end', () => {
      const match = /^HTTP\/1\.\d 200 .*\r\n\r\n\S+ (\S+)\n$/s.exec(text);
      if (match) answers[match[1]!] = (answers[match[1]!] ?? 0) + 1;
      resolve(match ? undefined : `incomplete answer: ${JSON.stringify(text.slice(0, 40))}`);
    });
  });
}

async function work(): Promise<void> {
  while (!ending) {
    const began = performance.now();
    const failure = await request();
    requests++;
    slowest = Math.max(slowest, performance.now() - began);
    if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1;
  }
}

process.stdin.resume().on('end', () => {
  ending = true;
});
process.stdin.on('data', () => process.stdout.write(`${requests}\n`));
await Promise.all(Array.from({ length: Number(connections) }, work));
process.stdout.write(`${JSON.stringify({ requests, failures, answers, slowest } satisfies LoadReport)}\n`);
