/** The command line: what it prints and returns, and that nothing is left behind whatever happens. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { parse } from 'yaml';
import { runCommand } from '../../src/base/command.ts';
import { Cluster } from '../../src/cluster/cluster.ts';
import { findDescription } from '../../src/cluster/description.ts';
import { clusterPaths } from '../../src/cluster/paths.ts';
import { recordedProcesses } from '../../src/cluster/process-table.ts';
import { supervisorOf } from '../../src/cluster/teardown.ts';
import {
  assertNothingLeft,
  clusterName,
  eventually,
  kubectl,
  PODWIRE,
  podwire,
  podwireInBackground,
  podwireUntil,
  removeLeftovers,
} from './fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'podwire-cli-'));
const KUBECONFIG = join(folder, 'kubeconfig');
const env = { KUBECONFIG };
after(removeLeftovers);
after(() => rmSync(folder, { recursive: true, force: true }));

describe('wrong usage is one clear line and an exit code', () => {
  const cases: [args: string[], exitCode: number, text: RegExp][] = [
    [['frobnicate'], 2, /unknown command 'frobnicate'/],
    [['up', '--nodes', 'many'], 2, /whole number/],
    [['up', '--nodes', '0'], 2, /1 to 250 nodes/],
    [['up', '--name', 'Not Valid'], 2, /cluster name "Not Valid" is not valid/],
    [['up', '--ip-family', 'ipv5'], 2, /Allowed choices are ipv4, ipv6, dual/],
    [['down', '--name', 'nowhere'], 1, /no cluster named "nowhere"/],
    [['status', '--name', 'nowhere'], 1, /no cluster named "nowhere"/],
    [['kubeconfig', '--name', 'nowhere'], 1, /no cluster named "nowhere"/],
    [['node', 'exec', '--name', 'nowhere', 'node-1', '--', 'true'], 1, /no cluster named "nowhere"/],
    [['completion', 'tcsh'], 2, /no completion for "tcsh"/],
  ];
  for (const [args, exitCode, text] of cases) {
    test(`podwire ${args.join(' ')}`, async () => {
      const result = await podwire(args);
      assert.match(result.stderr, text);
      assert.equal(result.exitCode, exitCode);
      assert.doesNotMatch(result.stderr, /\n\s+at /, 'no stack trace');
    });
  }
});

test('up without root says so and leaves nothing', async () => {
  const name = clusterName('noroot');
  const program = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'] as const;
  const result = await runCommand([...program, 'sh', '-c', `exec ${PODWIRE} up --name ${name}`], {
    env: { PATH: process.env['PATH'], PODWIRE_NODE: process.execPath },
  });
  if (/Permission denied/.test(result.stderr)) return; // the checkout itself cannot be read by others: nothing to prove
  assert.match(result.stderr, /starting a cluster needs root/);
  assert.equal(result.exitCode, 3);
  assertNothingLeft(name);
});

test('up without containerd names the package', async () => {
  const name = clusterName('nopkg');
  const script = `
    import { requirePrograms } from ${JSON.stringify(join(import.meta.dirname, '../../src/cluster/requirements.ts'))};
    import * as fs from 'node:fs';
    try { requirePrograms({ PATH: '/nonexistent' }, []); } catch (error) { console.log(error.message, '|', error.hint); }`;
  const { stdout } = await runCommand([process.execPath, '--input-type=module', '-e', script]);
  assert.match(stdout, /this machine lacks containerd, ctr.*\| run: apt-get install containerd/);
  assertNothingLeft(name);
});

test('help teaches, completion knows every command', async () => {
  const help = await podwire(['--help']);
  for (const command of ['up', 'down', 'status', 'kubectl', 'node', 'outside', 'image', 'tour'])
    assert.match(help.stdout, new RegExp(`^  ${command}\\b`, 'm'));
  assert.equal(help.exitCode, 0);
  const bash = await podwire(['completion', 'bash']);
  const script = `${bash.stdout}\nCOMP_WORDS=(podwire image ''); COMP_CWORD=2; _podwire; echo "\${COMPREPLY[@]}"`;
  const { stdout } = await runCommand(['bash', '-c', script]);
  for (const word of ['load', 'pull', 'list']) assert.ok(stdout.split(/\s+/).includes(word), `${word} in ${stdout}`);
});

test('detached: up merges a context, a second up is refused, status tells, down removes every trace', async () => {
  const name = clusterName('detach');
  writeFileSync(
    KUBECONFIG,
    'apiVersion: v1\nkind: Config\ncurrent-context: other\ncontexts:\n- {name: other, context: {cluster: o, user: o}}\n',
  );
  try {
    const up = await podwire(['up', '--name', name, '--nodes', '2', '--detach'], env);
    assert.equal(up.exitCode, 0, up.stderr);
    assert.match(up.stderr, /is ready: 2 nodes/);
    const again = await podwire(['up', '--name', name, '--detach'], env);
    assert.equal(again.exitCode, 3);
    assert.match(again.stderr, /there is a cluster named .* already/);

    const merged = parse(readFileSync(KUBECONFIG, 'utf8'));
    assert.equal(merged['current-context'], `podwire-${name}`);
    assert.deepEqual(
      merged.contexts.map((one: { name: string }) => one.name),
      ['other', `podwire-${name}`],
    );
    const nodes = await kubectl(KUBECONFIG, ['get', 'nodes', '-o', 'wide']);
    assert.match(nodes.stdout, /node-1\s+Ready\s.*172\.18\.0\.2/);
    assert.match(nodes.stdout, /node-2\s+Ready\s.*172\.18\.0\.3/);

    const status = JSON.parse((await podwire(['status', '--name', name, '-o', 'json'])).stdout);
    assert.equal(status[0].state, 'running');
    assert.deepEqual(
      status[0].nodes.map((node: { name: string }) => node.name),
      ['node-1', 'node-2'],
    );
    const routes = await podwire(['node', 'exec', '--name', name, 'node-1', '--', 'ip', '-4', 'addr', 'show', 'eth0']);
    assert.match(routes.stdout, /172\.18\.0\.2\/16/);
    const wrong = await podwire(['node', 'exec', '--name', name, 'node-9', '--', 'true']);
    assert.match(wrong.stderr, /has no node "node-9"/);
    const code = await podwire(['outside', '--name', name, '--', 'sh', '-c', 'exit 7']);
    assert.equal(code.exitCode, 7, 'the exit code of the command comes back');
    const passed = await podwire(['kubectl', '--name', name, '--', 'get', 'namespaces', '-o', 'name']);
    assert.match(passed.stdout, /namespace\/kube-system/);
    const images = JSON.parse((await podwire(['image', 'list', '--name', name, '-o', 'json'])).stdout);
    assert.ok(images.some((image: { image: string }) => image.image === 'nginx:latest'));
  } finally {
    const down = await podwire(['down', '--name', name], env);
    assert.equal(down.exitCode, 0, down.stderr);
  }
  const after = parse(readFileSync(KUBECONFIG, 'utf8'));
  assert.deepEqual(
    after.contexts.map((one: { name: string }) => one.name),
    ['other'],
  );
  assertNothingLeft(name);
});

test('foreground: Ctrl-C takes everything down', async () => {
  const name = clusterName('ctrlc');
  const { child, ended } = await podwireUntil(['up', '--name', name, '--nodes', '1', '--no-merge'], 'is ready');
  child.kill('SIGINT');
  assert.equal(await ended, 0);
  assertNothingLeft(name);
});

/** The supervisor's folder appears before its first process does, the description a moment later. */
const beginnings = {
  'the first file': (name: string) => existsSync(clusterPaths(name).run),
  'the first process': (name: string) => recordedProcesses(clusterPaths(name)).length > 1,
};

for (const [what, begun] of Object.entries(beginnings)) {
  for (const mode of ['in the foreground', 'detached']) {
    test(`Ctrl-C ${mode} just after ${what} ends soon and leaves nothing`, async () => {
      const name = clusterName(`early${what.length}${mode.length}`);
      const args = ['up', '--name', name, '--nodes', '2', '--no-merge', ...(mode === 'detached' ? ['--detach'] : [])];
      const { child, ended, output } = podwireInBackground(args);
      await eventually(what, () => begun(name), Boolean);
      child.kill('SIGINT');
      assert.ok([130, 143].includes((await ended) ?? 0), output());
      assert.match(output(), /interrupted by SIG(INT|TERM): nothing is left behind/);
      assert.doesNotMatch(output(), /is ready/, 'it did not go on until it was ready');
      assertNothingLeft(name);
    });
  }
}

test('Cluster.start gives up on its AbortSignal', async () => {
  const name = clusterName('aborted');
  const reason = new Error('not any more');
  const controller = new AbortController();
  const started = Cluster.start({
    name,
    nodes: 2,
    signal: controller.signal,
    progress: (step) => void (step.includes('the nodes') && controller.abort(reason)),
  });
  await assert.rejects(started, reason);
  assertNothingLeft(name);
});

test('a supervisor killed with -9 leaves a working cluster, and down removes it', async () => {
  const name = clusterName('killed');
  const up = await podwire(['up', '--name', name, '--nodes', '1', '--detach', '--no-merge']);
  assert.equal(up.exitCode, 0, up.stderr);
  const paths = clusterPaths(name);
  const supervisor = supervisorOf(paths);
  assert.ok(supervisor);
  process.kill(supervisor, 'SIGKILL');
  await eventually(
    'the supervisor is gone',
    () => supervisorOf(paths),
    (pid) => pid === undefined,
  );
  assert.ok(findDescription(name));
  const pods = await kubectl(paths.kubeconfig, ['get', 'nodes']);
  assert.match(pods.stdout, /node-1\s+Ready/);
  const status = JSON.parse((await podwire(['status', '--name', name, '-o', 'json'])).stdout);
  assert.equal(status[0].state, 'degraded');
  const down = await podwire(['down', '--name', name]);
  assert.equal(down.exitCode, 0, down.stderr);
  assertNothingLeft(name);
});

test('down --all removes what killed supervisors left, and nothing else', async () => {
  // All means all, so this runs where only its own clusters are to be seen: with a /run and a /var/lib of its own.
  const names = [clusterName('all1'), clusterName('all2')];
  const script = `
    set -eu
    mkdir ${folder}/run ${folder}/lib && mount --bind ${folder}/run /run && mount --bind ${folder}/lib /var/lib
    for name in ${names.join(' ')}; do
      ${PODWIRE} up --name $name --nodes 1 --detach --no-merge
      read pid rest < /run/podwire/$name/processes/supervisor
      kill -9 $pid
    done
    ${PODWIRE} down --all
    echo "left: $(ls -A /run/podwire /var/lib/podwire 2>/dev/null)"
    ${PODWIRE} down --all`;
  const result = await runCommand(['unshare', '--mount', 'sh', '-c', script], { timeoutMs: 60_000, env: process.env });
  assert.equal(result.exitCode, 0, result.stderr);
  for (const name of names) {
    assert.match(result.stderr, new RegExp(`taking ${name} down`));
    assertNothingLeft(name);
  }
  assert.match(result.stdout, /^left: $/m);
  assert.match(result.stderr, /no cluster to take down/);
});

test('a start that fails half way says why and leaves nothing', async () => {
  const name = clusterName('broken');
  // A containerd that ends at once: the nodes can never become Ready.
  const bin = mkdtempSync(join(tmpdir(), 'podwire-bin-'));
  writeFileSync(join(bin, 'containerd'), '#!/bin/sh\necho "broken on purpose" >&2\nexit 9\n', { mode: 0o755 });
  try {
    const script = `
      import { Cluster } from ${JSON.stringify(join(import.meta.dirname, '../../src/index.ts'))};
      await Cluster.start({ name: ${JSON.stringify(name)}, nodes: 1 }).then(() => console.log('started'), (error) => console.log(error.message));`;
    const result = await runCommand([process.execPath, '--input-type=module', '-e', script], {
      env: { ...process.env, PATH: `${bin}:${process.env['PATH']}` },
    });
    assert.match(result.stdout, /node-1-containerd ended 3 times in a row; .*exit code 9.*broken on purpose/);
  } finally {
    rmSync(bin, { recursive: true, force: true });
  }
  assertNothingLeft(name);
});
