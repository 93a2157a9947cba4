/** The real kubectl, the one on the PATH (and a second one named by PODWIRE_KUBECTL_OLD), against the server. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { TestServer } from './fixtures/api-server.ts';

function found(binary: string): string | undefined {
  try {
    return execFileSync('which', [binary], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}

const old = process.env['PODWIRE_KUBECTL_OLD'];
const binaries = [found('kubectl'), ...(old && existsSync(old) ? [old] : [])].filter((path) => path !== undefined);

const MANIFEST = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: nginx, image: "nginx:1", ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 80}]}
`;

describe('kubectl', {
  skip: binaries.length === 0 ? 'there is no kubectl: apt-get install kubernetes-client' : false,
}, () => {
  for (const binary of binaries) {
    describe(binary, () => {
      let server: TestServer;
      before(async () => {
        server = await TestServer.start();
      });
      after(() => server[Symbol.asyncDispose]());

      const run = async (args: string, input?: string) => {
        const { code, out, err } = await server.kubectl(binary, args.split(' '), input);
        assert.equal(code, 0, `kubectl ${args}: ${err}`);
        return out;
      };
      const refused = async (args: string, input?: string) => {
        const { code, err } = await server.kubectl(binary, args.split(' '), input);
        assert.notEqual(code, 0);
        return err;
      };

      it('runs and prints a pod', async () => {
        await run('run a --image=nginx --restart=Never');
        const [header, row] = (await run('get pods -o wide')).split('\n');
        assert.match(header!, /^NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\s+IP\s+NODE\s+NOMINATED NODE\s+READINESS GATES/);
        assert.match(row!, /^a\s+0\/1\s+Pending\s+0\s+\d+s\s+<none>\s+<none>/);
        assert.match(await run('describe pod a'), /Image:\s+nginx/);
        await run('label pod a x=y');
        assert.equal(await run('get pods -l x=y -o name'), 'pod/a\n');
        await run('delete pod a');
        assert.match(await refused('get pod a'), /Error from server \(NotFound\): pods "a" not found/);
      });

      it('applies, applies again, changes, and deletes a manifest', async () => {
        assert.equal(await run('apply -f -', MANIFEST), 'deployment.apps/web created\nservice/web created\n');
        assert.equal(await run('apply -f -', MANIFEST), 'deployment.apps/web unchanged\nservice/web unchanged\n');
        const changed = MANIFEST.replace('nginx:1', 'nginx:2').replace(', env: [{name: A, value: "1"}]', '');
        assert.equal(await run('apply -f -', changed), 'deployment.apps/web configured\nservice/web unchanged\n');
        const container = JSON.parse(await run('get deploy web -o json')).spec.template.spec.containers[0];
        assert.deepEqual([container.image, container.env], ['nginx:2', undefined]);
        await run('scale deploy web --replicas=4');
        assert.match(await run('get deploy web'), /web\s+0\/4/);
        await run('set image deploy/web nginx=nginx:3');
        await run('delete -f -', MANIFEST);
      });

      it('creates by its own commands', async () => {
        await run('create namespace ns');
        await run('create deployment d --image=nginx -n ns');
        await run('create configmap c --from-literal=a=b -n ns');
        await run('create secret generic s --from-literal=a=b -n ns');
        await run('create serviceaccount sa -n ns');
        await run('expose deployment d --port=80 -n ns');
        assert.equal(await run('get cm c -n ns -o jsonpath={.data.a}'), 'b');
        assert.match(await run('get all -n ns'), /service\/d/);
        assert.match(await run('get deploy,svc,cm,secret,sa -A'), /configmap\/c/);
      });

      it('shows refusals by field', async () => {
        const err = await refused(
          'create -f -',
          'apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: [{name: c, image: i, foo: 1}]}\n',
        );
        assert.match(err, /unknown field "(spec\.containers\[0\]\.)?foo"/);
        const invalid = await refused(
          'create -f - --validate=false',
          'apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: [{name: c}]}\n',
        );
        const unknown = await refused('apply -f -', 'apiVersion: v1\nkind: Podd\nmetadata: {name: x}\n');
        assert.match(unknown, /no matches for kind "Podd" in version "v1"/);
        assert.match(invalid, /The Pod "b" is invalid: spec\.containers\[0\]\.image: Required value/);
      });

      it('explains and discovers', async () => {
        assert.match(await run('explain pod.spec.containers.ports'), /containerPort\s+<integer> -required-/);
        assert.match(
          await run('api-resources'),
          /networkpolicies\s+netpol\s+networking\.k8s\.io\/v1\s+true\s+NetworkPolicy/,
        );
        assert.match(await run('api-versions'), /discovery\.k8s\.io\/v1/);
        assert.match(await run('version'), /v1\.36\.0\+podwire/);
        assert.equal((await run('auth can-i create pods')).trim(), 'yes');
      });
    });
  }
});
