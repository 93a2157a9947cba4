/** `npm run bench -- NAME [--json]`: runs one benchmark and prints its table; `--list` names them. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { renderTable } from '../src/cmd/terminal.ts';
import type { Distribution, Metrics } from './metrics.ts';
import { ratio } from './metrics.ts';

interface Benchmark {
  /** What it measures, in one line. */
  readonly about?: string;
  run(): Promise<Metrics>;
}

const HARNESS = ['main.ts', 'metrics.ts'];

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts') && !HARNESS.includes(file))
  .map((file) => file.slice(0, -'.ts'.length))
  .sort();

const load = (name: string) => import(join(import.meta.dirname, `${name}.ts`)) as Promise<Benchmark>;

const args = process.argv.slice(2);
const name = args.find((arg) => !arg.startsWith('-'));

if (args.includes('--list') || name === undefined) {
  for (const one of names) process.stdout.write(`${one.padEnd(16)}${(await load(one)).about ?? ''}\n`);
  process.exitCode = args.includes('--list') ? 0 : 2;
} else if (!names.includes(name)) {
  process.stderr.write(`there is no benchmark ${JSON.stringify(name)}; there are: ${names.join(', ')}\n`);
  process.exitCode = 2;
} else {
  const metrics = await (await load(name)).run();
  process.stdout.write(args.includes('--json') ? `${JSON.stringify(withRatios(metrics))}\n` : `${table(metrics)}\n`);
}

function withRatios(metrics: Metrics): object {
  return Object.fromEntries(
    Object.entries(metrics).map(([id, metric]) => [id, { ...metric, ratio: ratio(metric) ?? null }]),
  );
}

function table(metrics: Metrics): string {
  const cell = (value: Distribution | undefined) =>
    value ? `${round(value.p50)}${value.p99 === undefined ? '' : ` (p99 ${round(value.p99)})`}` : '-';
  const rows = Object.entries(metrics).map(([id, metric]) => {
    const times = ratio(metric);
    return [
      id,
      metric.unit,
      cell(metric.podwire),
      cell(metric.peer),
      times === undefined ? '-' : `${round(times)}x`,
      metric.peer?.name ?? '',
    ];
  });
  const notes = Object.entries(metrics).flatMap(([id, { note }]) => (note ? [`${id}: ${note}`] : []));
  return [renderTable(['METRIC', 'UNIT', 'PODWIRE p50', 'PEER p50', 'BETTER', 'PEER'], rows), ...notes].join('\n');
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(3);
}
