/** The README's examples, as they stand there: the session under "Every day" line by line, and the library in a project. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { checkedCommand, runCommand } from '../../src/base/command.ts';
import { OciLayout } from '../../src/cluster/images/layout.ts';
import { findPrepared } from '../../src/cluster/setup.ts';
import { assertNothingLeft, clusterName, removeLeftovers } from './fixture.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');

/** The first code block of a language behind a heading. */
function blockOf(heading: string, language: string): string {
  const section = readme.slice(readme.indexOf(`\n## ${heading}\n`));
  const match = new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(section);
  return match?.[1] ?? assert.fail(`the README has no ${language} under "${heading}"`);
}

const folder = mkdtempSync(join(tmpdir(), 'podwire-readme-'));
after(async () => {
  await removeLeftovers();
  rmSync(folder, { recursive: true, force: true });
});
symlinkSync(join(ROOT, 'bin'), join(folder, 'bin'));
const env = { ...process.env, NO_COLOR: '1', KUBECONFIG: join(folder, 'kubeconfig'), HOME: folder };

/** What the answer of a line must contain, where it says more than that it went well. */
const ANSWERS: readonly (readonly [line: string, answer: RegExp])[] = [
  ['exec client -- curl', /Welcome to nginx/],
  ['outside -- curl', /Welcome to nginx/],
  ['nft list table', /30080/],
  ['policy check', /^allow/],
  ['policy matrix', /all measured as computed/],
  ['status', /node-3/],
];

describe('the session under "Every day"', async () => {
  const name = clusterName('readme');
  // The test's own cluster instead of the default one, and never those of others.
  const ownCluster = (line: string) =>
    line
      .replace(' --all', '')
      .replace(/^bin\/podwire (up|down|status|outside|node exec|image load|policy \w+)\b/, `$& --name ${name}`);
  const lines = blockOf('Every day', 'sh')
    .trim()
    .split('\n')
    .map((line) => line.replace(/\s+# .*$/, ''));

  test('has an archive to load', async () => {
    const { images } = findPrepared()!;
    const busybox = new OciLayout(images).list().find(({ reference }) => reference.repository.includes('busybox'))!;
    const { mediaType, digest, size } = busybox.manifest;
    const annotations = { 'io.containerd.image.name': 'docker.io/library/app:1' };
    const index = { schemaVersion: 2, manifests: [{ mediaType, digest, size, annotations }] };
    writeFileSync(join(folder, 'index.json'), JSON.stringify(index));
    const parts = ['-C', images, 'oci-layout', 'blobs', '-C', folder, 'index.json'];
    await checkedCommand(['tar', '-cf', join(folder, 'app.tar'), ...parts]);
  });
  for (const line of lines) {
    test(line, { timeout: 120_000 }, async () => {
      const { exitCode, stdout, stderr } = await runCommand(['bash', '-c', ownCluster(line)], {
        cwd: folder,
        env,
        timeoutMs: 100_000,
      });
      assert.equal(exitCode, 0, `${stdout}${stderr}`);
      const expected = ANSWERS.find(([part]) => line.includes(part));
      if (expected) assert.match(stdout, expected[1]);
    });
  }
  test('leaves nothing', () => assertNothingLeft(name));
});

const APP = `
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec: { containers: [{ name: nginx, image: nginx }], terminationGracePeriodSeconds: 1 }
---
apiVersion: v1
kind: Pod
metadata: { name: stranger }
spec: { containers: [{ name: nginx, image: nginx }], terminationGracePeriodSeconds: 1 }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web }
spec: { podSelector: { matchLabels: { app: web } }, ingress: [] }
`;

test('the library in a project of its own', { timeout: 120_000 }, async () => {
  const name = clusterName('readme-library');
  const code = blockOf('Every day', 'ts').replace("name: 'test'", `name: '${name}'`);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules', 'podwire'));
  writeFileSync(join(folder, 'app.yaml'), APP);
  writeFileSync(join(folder, 'app.mts'), `${code}\nconsole.log(JSON.stringify({ stdout, denied }));\n`);
  const { exitCode, stdout, stderr } = await runCommand([process.execPath, 'app.mts'], {
    cwd: folder,
    env,
    timeoutMs: 100_000,
  });
  assert.equal(exitCode, 0, stderr);
  const seen = JSON.parse(stdout) as { stdout: string; denied: { outcome: string } };
  assert.equal(seen.stdout, 'web\n');
  assert.equal(seen.denied.outcome, 'timeout');
  assertNothingLeft(name);
});
