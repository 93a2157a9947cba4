/**
 * exec, attach, logs and port-forward with kubectl itself (today's over WebSocket, Debian's 1.20 over SPDY) against a real
 * containerd. The file runs itself again inside a network, mount and PID namespace of its own: nothing can leave that
 * network, and whatever is started dies with the namespace's first process.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type CommandResult, runCommand } from '../../src/base/command.ts';
import { runningPod, type StreamingServers, startStreamingServers } from '../contract/streaming-servers.ts';
import { currentKubectlMissing } from '../kubectl-version.ts';
import { removeCgroups, StreamingRuntime } from './streaming-runtime.ts';

const INSIDE = 'PODWIRE_STREAMING_TEST_FOLDER';
/** A kubectl that speaks SPDY only; Debian's is fetched when this is not set. */
const OLD_KUBECTL = 'PODWIRE_OLD_KUBECTL';

/** In the new namespaces: lo up, no control group hierarchy of version 2 beside version 1 (crun), a /run of its own. */
const ENTER = `set -e
mount --make-rprivate /
awk '$3 == "cgroup2" && $2 != "/sys/fs/cgroup" { print $2 }' /proc/self/mounts | while read -r dir; do umount "$dir"; done
mount -t tmpfs tmpfs /run
ip link set lo up
exec "$@"`;

if (process.env[INSIDE]) insideTests(process.env[INSIDE]);
else test('kubectl against containerd', { skip: missing(), timeout: 180_000 }, runInside);

function missing(): string | false {
  if (process.getuid?.() !== 0) return 'needs root for its namespaces: run it with sudo';
  const path = (process.env['PATH'] ?? '').split(':');
  const tools = ['containerd', 'ctr', 'crun', 'busybox', 'kubectl', 'ip', 'unshare', 'script'];
  const absent = tools.filter((tool) => !path.some((folder) => existsSync(join(folder, tool))));
  return absent.length > 0 && `not installed: ${absent.join(', ')} (npm start installs what is needed)`;
}

async function runInside(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'podwire-streaming-'));
  try {
    const env: NodeJS.ProcessEnv = { ...process.env, [INSIDE]: folder, [OLD_KUBECTL]: await oldKubectl(folder) };
    // The runner's own variable would make the inner run report to a parent that does not listen.
    delete env['NODE_TEST_CONTEXT'];
    const namespaces = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const self = fileURLToPath(import.meta.url);
    const argv = [...namespaces, 'sh', '-c', ENTER, 'sh', process.execPath, '--test-reporter=spec', self];
    const child = spawn('unshare', argv, {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 150_000,
      killSignal: 'SIGKILL',
    });
    const [output, errors, [code]] = await Promise.all([
      buffer(child.stdout),
      buffer(child.stderr),
      once(child, 'exit'),
    ]);
    assert.equal(code, 0, `${output}${errors}`);
  } finally {
    removeCgroups(folder);
    await rm(folder, { recursive: true, force: true });
  }
}

/** The path of an old kubectl, or empty where Debian's package cannot be had. Downloads are unpacked, never installed. */
async function oldKubectl(folder: string): Promise<string> {
  const given = process.env[OLD_KUBECTL];
  if (given) return given;
  const unpacked = join(folder, 'kubernetes-client');
  await mkdir(unpacked);
  await runCommand(['apt-get', 'download', 'kubernetes-client'], { cwd: unpacked, timeoutMs: 30_000 }).catch(() => {});
  const archive = readdirSync(unpacked).find((name) => name.endsWith('.deb'));
  if (archive) await runCommand(['dpkg', '-x', archive, '.'], { cwd: unpacked });
  const path = join(unpacked, 'usr/bin/kubectl');
  return existsSync(path) ? path : '';
}

function insideTests(folder: string): void {
  let runtime: StreamingRuntime;
  let servers: StreamingServers;
  const pods = ['web', 'reader-websocket', 'reader-spdy', 'counter-websocket', 'counter-spdy'];

  before(async () => {
    runtime = await StreamingRuntime.start(folder);
    servers = await startStreamingServers(
      runtime,
      pods.map((name) => runningPod(name)),
    );
    const page = 'mkdir -p /www; head -c 3000000 /dev/zero | tr "\\0" x > /www/page; httpd -p 127.0.0.1:8080 -h /www';
    await runtime.run('web', ['sh', '-c', `${page}; echo started; echo problem >&2; exec sleep 100000`]);
  });
  after(async () => {
    await servers?.[Symbol.asyncDispose]();
    await runtime?.[Symbol.asyncDispose]();
  });

  const clients = [
    {
      name: 'websocket',
      kubectl: 'kubectl',
      exec: 'websocket v5.channel.k8s.io',
      tunnel: 'websocket SPDY/3.1+portforward.k8s.io',
    },
    { name: 'spdy', kubectl: process.env[OLD_KUBECTL] ?? '', exec: 'SPDY/3.1', tunnel: 'SPDY/3.1' },
  ];
  for (const client of clients) {
    const missing = client.kubectl ? false : 'no old kubectl: Debian’s kubernetes-client could not be downloaded';
    const skip = client.name === 'websocket' ? currentKubectlMissing() : missing;
    suite(`kubectl over ${client.name}`, { skip }, () => clientTests(client));
  }

  function clientTests({ name, kubectl, exec, tunnel }: (typeof clients)[number]): void {
    const argv = (...args: string[]): [string, ...string[]] => [kubectl, `--server=${servers.url}`, ...args];
    const run = (args: string[], input?: Buffer | string): Promise<CommandResult> =>
      runCommand(argv(...args), { input, timeoutMs: 30_000 });

    test('exec: output, errors, exit code', async () => {
      servers.upgrades.length = 0;
      const result = await run(['exec', 'web', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7']);
      assert.deepEqual(result, { exitCode: 7, stdout: 'out\n', stderr: 'err\ncommand terminated with exit code 7\n' });
      assert.deepEqual(servers.upgrades, [exec]);
    });

    test('exec: 10 MB of anything each way, ended by the end of stdin', async () => {
      const sent = randomBytes(10 << 20);
      const child = spawn(kubectl, argv('exec', '-i', 'web', '--', 'cat').slice(1), {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      child.stdin.end(sent);
      const received = await buffer(child.stdout);
      assert.equal(createHash('md5').update(received).digest('hex'), createHash('md5').update(sent).digest('hex'));
    });

    test('exec: nothing is lost at a slow reader', async () => {
      const command = argv('exec', 'web', '--', 'head', '-c', '20000000', '/dev/zero').join(' ');
      const { stdout } = await runCommand(['sh', '-c', `${command} | (sleep 1; wc -c)`], { timeoutMs: 30_000 });
      assert.equal(stdout.trim(), '20000000');
    });

    // As much as the pipes hold: beyond that containerd 1.6 itself may wait for ever (see the streaming README).
    test('exec: a command that does not read its input', async () => {
      const result = await run(['exec', '-i', 'web', '--', 'echo', 'ignored it'], randomBytes(32 << 10));
      assert.equal(result.stdout, 'ignored it\n');
      assert.equal(result.exitCode, 0);
    });

    test('exec: a terminal has a size, one output and an exit code', async () => {
      const inner = `i=0; while [ $i -lt 50 ]; do s=$(stty size 2>&1); [ "$s" = "33 77" ] && break; i=$((i+1)); usleep 50000; done; echo size $s >&2; tty; exit 3`;
      const command = `stty rows 33 cols 77; ${kubectl} --server=${servers.url} exec -it web -- sh -c '${inner}'`;
      const result = await runCommand(['script', '-qec', command, '/dev/null'], { timeoutMs: 30_000 });
      // script(1) without input sends a NUL at some moment, which the terminal echoes.
      assert.match(result.stdout.replaceAll('^@', ''), /size 33 77\r\n\/dev\/(pts\/\d+|console)\r\n/);
      assert.equal(result.exitCode, 3);
    });

    test('exec: what cannot be executed', async () => {
      assert.match((await run(['exec', 'web', '--', '/nonexistent'])).stderr, /nonexistent/);
      const absent = await run(['exec', 'reader-none', '--', 'true']);
      assert.match(absent.stderr, /not found/);
      assert.equal(absent.exitCode, 1);
    });

    test('attach: input to the main process, its output, its end', async () => {
      const pod = `reader-${name}`;
      await runtime.run(pod, ['sh', '-c', 'read line; echo "got $line"; exit 0'], { stdin: true, stdinOnce: true });
      const result = await run(['attach', '-i', pod], 'hello\n');
      assert.match(result.stdout, /got hello\n/);
      assert.equal(result.exitCode, 0);
    });

    test('port-forward: requests one after the other and at the same time', async () => {
      servers.upgrades.length = 0;
      const child = spawn(kubectl, argv('port-forward', 'pod/web', ':8080', '--address=127.0.0.1').slice(1), {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      try {
        const [line] = (await once(child.stdout, 'data')) as [Buffer];
        const url = `http://127.0.0.1:${/127\.0\.0\.1:(\d+)/.exec(line.toString())![1]}/page`;
        const size = async () => (await (await fetch(url)).arrayBuffer()).byteLength;
        assert.equal(await size(), 3_000_000);
        assert.deepEqual(await Promise.all([size(), size(), size(), size()]), [3e6, 3e6, 3e6, 3e6]);
        assert.deepEqual(servers.upgrades, [tunnel]);
      } finally {
        child.kill();
        await once(child, 'exit');
      }
    });

    test('logs: all, the tail, and following to the end', async () => {
      assert.equal((await run(['logs', 'web'])).stdout.split('\n').sort().join(' '), ' problem started');
      assert.match((await run(['logs', '--tail=1', '--timestamps', 'web'])).stdout, /^\d{4}-.*\.\d{9}\S* \w+\n$/);
      const pod = `counter-${name}`;
      await runtime.run(pod, ['sh', '-c', 'for i in 1 2 3 4 5; do echo $i; usleep 200000; done']);
      assert.equal((await run(['logs', '-f', pod])).stdout, '1\n2\n3\n4\n5\n');
    });
  }
}
