/** kubectl as people use it, in its current version and in Debian's, which speaks SPDY and older discovery. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { runCommand } from '../../src/base/command.ts';
import { currentKubectlMissing } from '../kubectl-version.ts';
import { eventually, inBackground, kubectl as runKubectl, startCluster } from './fixture.ts';

/** Debian 12's kubectl, fetched and unpacked but never installed; undefined where it cannot be had. */
async function debianKubectl(): Promise<string | undefined> {
  const cache = join(tmpdir(), 'podwire-test-kubectl');
  const program = join(cache, 'usr/bin/kubectl');
  if (existsSync(program)) return program;
  const folder = mkdtempSync(join(tmpdir(), 'podwire-download-'));
  const unpacked = join(folder, 'unpacked');
  mkdirSync(unpacked);
  try {
    await runCommand(['apt-get', 'download', 'kubernetes-client'], {
      cwd: folder,
      env: process.env,
      timeoutMs: 60_000,
    });
    const archive = readdirSync(folder).find((name) => name.endsWith('.deb'));
    if (!archive) return undefined;
    await runCommand(['dpkg', '-x', join(folder, archive), unpacked], { timeoutMs: 60_000 });
    if (!existsSync(cache)) renameSync(unpacked, cache);
    return existsSync(program) ? program : undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const old = await debianKubectl();
const cluster = await startCluster('kubectl', { nodes: 2 });

const DEPLOYMENT = (image: string) => `apiVersion: apps/v1
kind: Deployment
metadata: { name: web, labels: { app: web } }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: nginx, image: ${image} }]
---
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { colour: blue, shape: round }
`;

for (const [version, program] of [
  ['current', 'kubectl'],
  ['1.20', old],
] as const) {
  const missing =
    program === undefined && 'apt-get download kubernetes-client did not work: no network, or no Debian mirror';
  const skip = version === 'current' ? currentKubectlMissing() : missing;
  describe(`kubectl, ${version}`, { skip }, () => {
    const namespace = `v${version.replace('.', '')}`;
    const run = (args: readonly string[], input?: string) =>
      runKubectl(cluster.kubeconfig, ['--namespace', namespace, ...args], {
        program,
        ...(input === undefined ? {} : { input }),
      });
    /** The command must succeed; its standard output. */
    const ok = async (line: string, input?: string) => {
      const result = await run(words(line), input);
      assert.equal(result.exitCode, 0, `kubectl ${line}: ${result.stderr}`);
      return result.stdout;
    };
    /** The command must fail; its standard error. */
    const fails = async (line: string, input?: string) => {
      const result = await run(words(line), input);
      assert.notEqual(result.exitCode, 0, `kubectl ${line} went well: ${result.stdout}`);
      return result.stderr;
    };

    test('its version, and the kinds there are', async () => {
      assert.match(
        await ok('version'),
        version === '1.20' ? /GitVersion:"v1\.20/ : /Client Version: v1\.(2[89]|[3-9]\d)/,
      );
      const kinds = await ok('api-resources');
      for (const line of [
        /^pods\s+po\s+v1\s+true\s+Pod$/m,
        /^deployments\s+deploy\s+apps\/v1\s+true\s+Deployment$/m,
        /^networkpolicies\s+netpol\s/m,
        /^nodes\s+no\s+v1\s+false\s/m,
      ])
        assert.match(kinds, line);
      assert.match(await ok('api-versions'), /^discovery\.k8s\.io\/v1$/m);
      assert.match(await ok('cluster-info'), /is running at.*https:\/\/127\.0\.0\.1:\d+/);
      assert.match(await ok(`create namespace ${namespace}`), /created/);
      await eventually(
        'the default ServiceAccount',
        () => run(['get', 'serviceaccount', 'default']),
        ({ exitCode }) => exitCode === 0,
      );
    });

    test('run, wait, get in every form, describe', async () => {
      assert.match(await ok('run pod-a --image=nginx --labels=app=a --port=80'), /pod\/pod-a created/);
      assert.match(await ok('wait --for=condition=Ready pod/pod-a --timeout=60s'), /condition met/);
      assert.match(await ok('get pods'), /^NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\npod-a\s+1\/1\s+Running\s+0\s/);
      assert.match(await ok('get pods -o wide'), /\s10\.244\.\d+\.\d+\s+node-\d\s/);
      assert.match(await ok('get pod pod-a -o yaml'), /^apiVersion: v1\nkind: Pod\n/);
      assert.equal(await ok('get pod pod-a -o jsonpath={.spec.containers[0].image}'), 'nginx');
      assert.equal(await ok('get pods -l app=a -o name'), 'pod/pod-a\n');
      assert.equal(await ok('get pods --field-selector status.phase=Running -o name'), 'pod/pod-a\n');
      assert.match(await ok('get pods --all-namespaces'), new RegExp(`^${namespace}\\s+pod-a\\s`, 'm'));
      assert.match(await ok('get pods --sort-by=.metadata.name --show-labels'), /app=a/);
      assert.match(
        await ok('get nodes,services,ns --all-namespaces'),
        /node\/node-1[\s\S]*service\/kubernetes[\s\S]*namespace\/kube-system/,
      );
      const parts = [
        /^Name:\s+pod-a$/m,
        /^Node:\s+node-\d\/172\.18\.0\.\d$/m,
        /^Status:\s+Running$/m,
        /Started container pod-a/,
        /Successfully assigned/,
      ];
      // Events come a moment after what they tell of.
      await eventually(
        'describe',
        () => ok('describe pod pod-a'),
        (described) => parts.every((part) => part.test(described)),
      );
      assert.match(await ok('describe node node-1'), /PodCIDR:\s+10\.244\./);
      assert.match(await ok('get events'), /Scheduled/);
      assert.match(await fails('get pod nobody'), /^Error from server \(NotFound\): pods "nobody" not found/);
    });

    test('get -w sees changes as they happen', async () => {
      const watch = inBackground([program!, '-n', namespace, 'get', 'configmap', '--watch'], {
        KUBECONFIG: cluster.kubeconfig,
      });
      await eventually(
        'it has begun',
        () => watch.output(),
        (text) => text.includes('kube-root-ca.crt'),
      );
      await ok('create configmap watched --from-literal=a=1');
      await ok('delete configmap watched');
      await eventually(
        'both changes',
        () => watch.output(),
        (text) => (text.match(/^watched /gm) ?? []).length >= 2,
      );
      watch.child.kill('SIGTERM');
      await watch.ended;
    });

    test('logs, exec, exec with a terminal, port-forward', async () => {
      await eventually(
        'it serves',
        () => run(['exec', 'pod-a', '--', 'curl', '-s', 'localhost']),
        ({ stdout }) => stdout.includes('Welcome'),
      );
      assert.match(await ok('logs pod-a'), /GET \/ HTTP/);
      assert.equal((await run(['exec', 'pod-a', '--', 'sh', '-c', 'exit 9'])).exitCode, 9);
      assert.equal((await run(['exec', '-i', 'pod-a', '--', 'cat'], 'through and back')).stdout, 'through and back');
      const line = `${program} -n ${namespace} exec -it pod-a -- sh`;
      const terminal = inBackground(['script', '-qec', line, '/dev/null'], { KUBECONFIG: cluster.kubeconfig });
      terminal.child.stdin.write('tty; exit 6\n');
      assert.equal(await terminal.ended, 6, terminal.output());
      assert.match(terminal.output(), /\/dev\/pts\/\d/);
      const forward = inBackground([program!, '-n', namespace, 'port-forward', 'pod/pod-a', ':80'], {
        KUBECONFIG: cluster.kubeconfig,
      });
      try {
        const said = await eventually(
          'it listens',
          () => forward.output(),
          (text) => /127\.0\.0\.1:\d+ ->/.test(text),
        );
        const port = /127\.0\.0\.1:(\d+)/.exec(said)![1]!;
        assert.match(await page(port), /Welcome to nginx/);
      } finally {
        forward.child.kill('SIGTERM');
        await forward.ended;
      }
    });

    test('expose, and the Service answers', async () => {
      assert.match(await ok('expose pod pod-a --name=svc-a --port=80'), /service\/svc-a exposed/);
      assert.match(await ok('get service svc-a'), /^svc-a\s+ClusterIP\s+10\.96\.\d+\.\d+\s+<none>\s+80\/TCP/m);
      assert.match(await ok('get endpoints svc-a'), /10\.244\.\d+\.\d+:80/);
      assert.match(await ok('describe service svc-a'), /Endpoints:\s+10\.244/);
      await eventually(
        'by name',
        () => run(['exec', 'pod-a', '--', 'curl', '-s', 'http://svc-a']),
        ({ stdout }) => stdout.includes('Welcome'),
      );
    });

    test('apply creates, says unchanged, updates, removes what is no longer in the manifest', async () => {
      assert.match(
        await ok('apply -f -', DEPLOYMENT('nginx')),
        /deployment\.apps\/web created\nconfigmap\/settings created/,
      );
      assert.match(
        await ok('apply -f -', DEPLOYMENT('nginx')),
        /deployment\.apps\/web unchanged\nconfigmap\/settings unchanged/,
      );
      const changed = DEPLOYMENT('nginx').replace('blue, shape: round', 'green').replace('replicas: 2', 'replicas: 3');
      assert.match(await ok('diff -f -', DEPLOYMENT('nginx')), /^$/);
      assert.match(await ok('apply -f -', changed), /deployment\.apps\/web configured\nconfigmap\/settings configured/);
      assert.deepEqual(JSON.parse(await ok('get configmap settings -o jsonpath={.data}')), { colour: 'green' });
      assert.equal(await ok('get deployment web -o jsonpath={.spec.replicas}'), '3');
    });

    test('rollout, scale, set image, undo', async () => {
      assert.match(await ok('rollout status deployment/web --timeout=60s'), /successfully rolled out/);
      assert.match(await ok('scale deployment web --replicas=1'), /scaled/);
      assert.match(await ok('set image deployment/web nginx=nginx:latest'), /image updated/);
      assert.match(await ok('rollout status deployment/web --timeout=60s'), /successfully rolled out/);
      assert.match(await ok('rollout history deployment/web'), /^1\s[\s\S]*^2\s/m);
      assert.match(await ok('rollout undo deployment/web'), /rolled back/);
      assert.match(await ok('rollout status deployment/web --timeout=60s'), /successfully rolled out/);
      assert.equal(await ok('get deployment web -o jsonpath={.spec.template.spec.containers[0].image}'), 'nginx');
      assert.match(await ok('rollout restart deployment/web'), /restarted/);
      assert.match(await ok('get deployments,replicasets'), /deployment\.apps\/web\s+\d\/1\s/);
      assert.match(await ok('describe deployment web'), /NewReplicaSet:/);
    });

    test('label, annotate, and patches of every form', async () => {
      assert.match(await ok('label configmap settings tier=back'), /labeled/);
      assert.match(await fails('label configmap settings tier=front'), /--overwrite/);
      assert.match(await ok('label configmap settings tier=front --overwrite'), /labeled/);
      assert.match(await ok('label configmap settings tier-'), /configmap\/settings (un)?labeled/);
      assert.match(await ok('annotate configmap settings note=hello'), /annotated/);
      await ok(`patch configmap settings --type=merge -p '{"data":{"one":"1"}}'`);
      await ok(`patch configmap settings --type=json -p '[{"op":"replace","path":"/data/one","value":"2"}]'`);
      await ok(
        `patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"nginx","env":[{"name":"A","value":"B"}]}]}}}}'`,
      );
      assert.equal(await ok('get configmap settings -o jsonpath={.data.one}'), '2');
      assert.equal(await ok('get deployment web -o jsonpath={.spec.template.spec.containers[0].image}'), 'nginx');
      assert.equal(await ok('get deployment web -o jsonpath={.spec.template.spec.containers[0].env[0].value}'), 'B');
      assert.match(await ok('get configmap settings -o yaml'), /note: hello/);
      const replaced = await ok('get configmap settings -o json');
      assert.match(await ok('replace -f -', replaced.replace('"2"', '"3"')), /replaced/);
      assert.match(await fails('replace -f -', replaced), /\(Conflict\).*the object has been modified/);
    });

    test('auth can-i, explain, dry run', async () => {
      assert.equal((await ok('auth can-i create pods')).trim(), 'yes');
      const explained = await ok('explain pod.spec.containers');
      assert.match(explained, /image/);
      assert.match(await ok('create deployment dry --image=nginx --dry-run=server'), /created \(server dry run\)/);
      assert.match(await fails('get deployment dry'), /NotFound/);
    });

    describe('what is wrong is refused with a Status that names the field', () => {
      const podWith = (spec: string, name = 'bad') =>
        `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name} }\nspec: ${spec}\n`;
      const cases: [what: string, manifest: string, complaint: RegExp][] = [
        ['malformed YAML', 'apiVersion: v1\nkind: Pod\n  metadata: [', /error (parsing|converting YAML)/],
        ['no kind', 'apiVersion: v1\nmetadata: { name: x }\n', /kind/i],
        [
          'an unknown kind',
          'apiVersion: v1\nkind: Podd\nmetadata: { name: x }\n',
          /no matches for kind "Podd" in version "v1"/,
        ],
        [
          'an unknown field',
          podWith('{ containers: [{ name: a, image: nginx, imagge: b }] }'),
          /unknown field "?(spec\.containers\[0\]\.)?imagge"?/,
        ],
        [
          'a wrong type',
          podWith('{ containers: [{ name: a, image: nginx, ports: [{ containerPort: eighty }] }] }'),
          /containerPort/,
        ],
        [
          'a bad name',
          podWith('{ containers: [{ name: a, image: nginx }] }', 'Bad_Name'),
          /metadata\.name: Invalid value: "Bad_Name"[\s\S]*RFC 1123/,
        ],
        ['a missing image', podWith('{ containers: [{ name: a }] }'), /spec\.containers\[0\]\.image: Required value/],
        [
          'two containers of a name',
          podWith('{ containers: [{ name: a, image: nginx }, { name: a, image: nginx }] }'),
          /spec\.containers\[1\]\.name: Duplicate value: "a"/,
        ],
        [
          'a port out of range',
          podWith('{ containers: [{ name: a, image: nginx, ports: [{ containerPort: 70000 }] }] }'),
          /containerPort: Invalid value: 70000/,
        ],
        [
          'an unsupported value',
          podWith('{ restartPolicy: Sometimes, containers: [{ name: a, image: nginx }] }'),
          /spec\.restartPolicy: Unsupported value: "Sometimes"[\s\S]*"Always"/,
        ],
        [
          'a Service without ports',
          'apiVersion: v1\nkind: Service\nmetadata: { name: x }\nspec: { selector: { a: b } }\n',
          /spec\.ports: Required value/,
        ],
        [
          'a Deployment whose selector misses its pods',
          'apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: x }\nspec: { selector: { matchLabels: { a: b } }, template: { metadata: { labels: { a: c } }, spec: { containers: [{ name: a, image: nginx }] } } }\n',
          /spec\.template\.metadata\.labels: Invalid value[\s\S]*selector/,
        ],
      ];
      for (const [what, manifest, complaint] of cases) {
        test(what, async () => {
          const text = await fails('create -f -', manifest);
          assert.match(text, complaint);
          assert.doesNotMatch(text, /InternalError|panic|TypeError/);
        });
      }
      test('what cannot be changed', async () => {
        const text = await fails(`patch pod pod-a -p '{"spec":{"nodeName":"node-9"}}'`);
        assert.match(text, /pod updates may not change fields|nodeName|Forbidden/);
      });
    });

    test('delete: one, by label, a namespace with all that is in it', async () => {
      assert.match(await ok('delete pod pod-a --grace-period=1'), /deleted/);
      assert.match(await ok('delete configmap,service -l app=a'), /deleted|No resources found/);
      assert.match(await fails('delete pod pod-a'), /NotFound/);
      assert.match(await ok('delete pod pod-a --ignore-not-found'), /^$/);
      assert.match(await ok(`delete namespace ${namespace} --timeout=60s`), /deleted/);
      assert.match(await ok('get all'), /^$/);
      assert.match(await fails(`get namespace ${namespace}`), /NotFound/);
    });
  });
}

/** Splits at spaces; single quotes keep what is between them. */
function words(line: string): string[] {
  return [...line.matchAll(/(?:[^\s']+|'[^']*')+/g)].map(([word]) => word.replaceAll("'", ''));
}

function page(port: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(`http://127.0.0.1:${port}/`, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve(text));
    }).on('error', reject);
  });
}
