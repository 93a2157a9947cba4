/**
 * The layers of the house (docs/architecture.md): imports point only downwards, components of one level never import each
 * other. Each rule stands with its reason.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';

const SRC = join(import.meta.dirname, '..', 'src');

/** A layer, what it may import beside itself and base, and why not more. */
const layers: Record<string, { readonly may: readonly string[]; readonly because: string }> = {
  base: { may: [], because: 'base knows nothing of the rest' },
  kube: { may: [], because: 'kube speaks the API and knows no Linux' },
  linux: { may: [], because: 'linux is the kernel and knows no Kubernetes' },
  store: { may: ['kube'], because: 'the store keeps objects and knows no server' },
  apiserver: { may: ['kube', 'store'], because: 'the API server runs anywhere, so it touches no kernel' },
  controllers: { may: ['kube'], because: 'controllers speak only through the API' },
  'node/pods': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  'node/cni': { may: ['kube', 'linux', 'node/ipam'], because: 'CNI ADD reserves an address; nothing else of the node' },
  'node/ipam': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  'node/routes': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  'node/services': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  'node/policy': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  'node/announce': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  'node/dns': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  'node/drain': { may: ['kube', 'linux'], because: 'node components meet in cmd' },
  ingress: { may: ['kube', 'linux'], because: 'ingress speaks only through the API' },
  insight: {
    may: ['kube', 'linux', 'node/services', 'node/policy', 'node/routes'],
    because: 'explanations ask the pure models of the data plane',
  },
  cluster: {
    may: ['kube', 'linux', 'apiserver', 'node/cni', 'node/pods'],
    because: 'a cluster makes certificates and namespaces and starts processes; their wiring is in cmd',
  },
};

function layerOf(file: string): string {
  const [first, second] = relative(SRC, file).split('/') as [string, string | undefined];
  return first === 'node' ? `node/${second}` : first;
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const found = [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g)].map((match) => match[1]!);
  return found.map((path) => join(dirname(file), path));
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !name.endsWith('.d.ts'))
  .map((name) => join(SRC, name));

test('imports point downwards', () => {
  const wrong: string[] = [];
  for (const file of files) {
    const layer = layerOf(file);
    if (layer === 'cmd' || layer === 'index.ts') continue;
    const rule = layers[layer];
    assert.ok(rule, `src/${layer} has no rule in this test: say what it may import, and why`);
    for (const target of importsOf(file)) {
      const other = layerOf(target);
      if (other !== layer && other !== 'base' && !rule.may.includes(other)) {
        wrong.push(`${relative(SRC, file)} imports ${relative(SRC, target)}: ${rule.because}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('only the API server and the composition roots know the store', () => {
  const users = new Set(files.filter((file) => importsOf(file).some((path) => layerOf(path) === 'store')).map(layerOf));
  users.delete('store');
  assert.deepEqual([...users].sort(), [...users].filter((layer) => ['apiserver', 'cmd'].includes(layer)).sort());
});
