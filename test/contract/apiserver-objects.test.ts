/** Creating, changing and deleting objects over HTTPS: what Kubernetes' clients rely on. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { aPod, type Body, CONFIG_MAPS, configMap, PODS, TestServer } from './fixtures/api-server.ts';

let server: TestServer;
before(async () => {
  server = await TestServer.start();
});
after(() => server[Symbol.asyncDispose]());

describe('create', () => {
  it('sets the metadata that only the server sets, and the defaults of Kubernetes', async () => {
    const pod = await server.created(
      PODS,
      aPod('defaults', { metadata: { uid: 'mine', generation: 7, deletionTimestamp: '2020-01-01T00:00:00Z' } }),
    );
    assert.match(pod.metadata.uid, /^[0-9a-f-]{36}$/);
    assert.match(pod.metadata.creationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.equal(pod.metadata.generation, 1);
    assert.equal(pod.metadata.deletionTimestamp, undefined);
    assert.equal(pod.metadata.namespace, 'default');
    assert.match(pod.metadata.resourceVersion, /^\d+$/);
    const { spec } = pod;
    assert.equal(spec.restartPolicy, 'Always');
    assert.equal(spec.dnsPolicy, 'ClusterFirst');
    assert.equal(spec.terminationGracePeriodSeconds, 30);
    assert.equal(spec.schedulerName, 'default-scheduler');
    assert.equal(spec.enableServiceLinks, true);
    assert.deepEqual(spec.securityContext, {});
    assert.equal(spec.containers[0].imagePullPolicy, 'Always');
    assert.equal(spec.containers[0].terminationMessagePath, '/dev/termination-log');
    assert.equal(spec.serviceAccountName, 'default');
    assert.deepEqual(
      spec.tolerations.map((t: Body) => [t.key, t.tolerationSeconds]),
      [
        ['node.kubernetes.io/not-ready', 300],
        ['node.kubernetes.io/unreachable', 300],
      ],
    );
    const [volume] = spec.volumes;
    assert.match(volume.name, /^kube-api-access-[a-z0-9]{5}$/);
    assert.equal(volume.projected.sources[1].configMap.name, 'kube-root-ca.crt');
    assert.deepEqual(pod.status, { phase: 'Pending', qosClass: 'BestEffort' });
  });

  it('makes names from generateName', async () => {
    const one = await server.created(CONFIG_MAPS, { metadata: { generateName: 'gen-' } });
    const two = await server.created(CONFIG_MAPS, { metadata: { generateName: 'gen-' } });
    assert.match(one.metadata.name, /^gen-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    assert.notEqual(one.metadata.name, two.metadata.name);
  });

  it('refuses what is there already', async () => {
    await server.created(CONFIG_MAPS, configMap('twice'));
    const reply = await server.call('POST', CONFIG_MAPS, { body: configMap('twice') });
    assert.equal(reply.code, 409);
    assert.equal(reply.body.reason, 'AlreadyExists');
    assert.equal(reply.body.message, 'configmaps "twice" already exists');
    assert.deepEqual(reply.body.details, { name: 'twice', kind: 'configmaps' });
  });

  it('stores nothing with dryRun=All', async () => {
    const reply = await server.call('POST', `${CONFIG_MAPS}?dryRun=All`, { body: configMap('dry') });
    assert.equal(reply.code, 201);
    assert.equal((await server.get(`${CONFIG_MAPS}/dry`)).code, 404);
  });

  it('takes YAML', async () => {
    const body = 'kind: ConfigMap\napiVersion: v1\nmetadata: {name: from-yaml}\ndata: {a: "1"}\n';
    const reply = await server.call('POST', CONFIG_MAPS, { body, headers: { 'content-type': 'application/yaml' } });
    assert.deepEqual([reply.code, reply.body.data], [201, { a: '1' }]);
  });

  it('needs its namespace', async () => {
    const reply = await server.call('POST', '/api/v1/namespaces/nowhere/pods', { body: aPod('a') });
    assert.deepEqual([reply.code, reply.body.message], [404, 'namespaces "nowhere" not found']);
    const other = await server.call('POST', PODS, { body: aPod('a', { metadata: { namespace: 'kube-system' } }) });
    assert.deepEqual(
      [other.code, other.body.message],
      [400, 'the namespace of the provided object does not match the namespace sent on the request'],
    );
  });
});

describe('refusals name the field in the words of Kubernetes', () => {
  const strict = `${PODS}?fieldValidation=Strict`;
  const base = { name: 'c', image: 'i' };
  const cases: readonly [what: string, path: string, body: Body, code: number, message: string | RegExp][] = [
    [
      'unknown field',
      strict,
      { metadata: { name: 'x' }, spec: { foo: 1, containers: [{ ...base, bar: 2 }] } },
      400,
      'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.foo", unknown field "spec.containers[0].bar"',
    ],
    [
      'wrong type',
      PODS,
      { metadata: { name: 'x' }, spec: { containers: 'no' } },
      400,
      'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container',
    ],
    [
      'wrong inner type',
      PODS,
      { metadata: { name: 'x' }, spec: { containers: [{ name: 'c', image: 3 }] } },
      400,
      'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string',
    ],
    [
      'quantity',
      PODS,
      { metadata: { name: 'x' }, spec: { containers: [{ ...base, resources: { limits: { cpu: 'lots' } } }] } },
      400,
      /quantities must match the regular expression/,
    ],
    [
      'no containers',
      PODS,
      { metadata: { name: 'x' }, spec: {} },
      422,
      'Pod "x" is invalid: spec.containers: Required value',
    ],
    [
      'no name',
      PODS,
      { metadata: {}, spec: { containers: [base] } },
      422,
      'Pod "" is invalid: metadata.name: Required value: name or generateName is required',
    ],
    [
      'image',
      PODS,
      { metadata: { name: 'x' }, spec: { containers: [{ name: 'c' }] } },
      422,
      'Pod "x" is invalid: spec.containers[0].image: Required value',
    ],
    [
      'enumeration',
      PODS,
      { metadata: { name: 'x' }, spec: { restartPolicy: 'Maybe', containers: [base] } },
      422,
      'Pod "x" is invalid: spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"',
    ],
    [
      'duplicate',
      PODS,
      { metadata: { name: 'x' }, spec: { containers: [base, base] } },
      422,
      'Pod "x" is invalid: spec.containers[1].name: Duplicate value: "c"',
    ],
    [
      'name',
      PODS,
      { metadata: { name: 'X_' }, spec: { containers: [base] } },
      422,
      /metadata\.name: Invalid value: "X_": a lowercase RFC 1123 subdomain must consist of/,
    ],
    [
      'label',
      PODS,
      { metadata: { name: 'x', labels: { 'a b': 'c' } }, spec: { containers: [base] } },
      422,
      /metadata\.labels: Invalid value: "a b": name part must consist of/,
    ],
    [
      'mount',
      PODS,
      { metadata: { name: 'x' }, spec: { containers: [{ ...base, volumeMounts: [{ name: 'v', mountPath: '/v' }] }] } },
      422,
      'Pod "x" is invalid: spec.containers[0].volumeMounts[0].name: Not found: "v"',
    ],
    [
      'port',
      PODS,
      { metadata: { name: 'x' }, spec: { containers: [{ ...base, ports: [{ containerPort: 70000 }] }] } },
      422,
      'Pod "x" is invalid: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive',
    ],
    [
      'selector',
      '/apis/apps/v1/namespaces/default/deployments',
      {
        metadata: { name: 'd' },
        spec: {
          selector: { matchLabels: { a: 'b' } },
          template: { metadata: { labels: { a: 'c' } }, spec: { containers: [base] } },
        },
      },
      422,
      'Deployment.apps "d" is invalid: spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`',
    ],
    [
      'peer',
      '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies',
      {
        metadata: { name: 'n' },
        spec: { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/9'] } }] }] },
      },
      422,
      'NetworkPolicy.networking.k8s.io "n" is invalid: spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/9": must be a strict subset of `cidr`',
    ],
    [
      'api version',
      PODS,
      { apiVersion: 'apps/v1', kind: 'Pod', metadata: { name: 'x' } },
      400,
      'the API version in the data (apps/v1) does not match the expected API version (v1)',
    ],
    ['malformed', PODS, '{"kind": "Pod",', 400, /json parse error: .*(position|end of JSON)/i],
    ['not an object', PODS, '[1]', 400, /cannot be handled as a Pod/],
  ];
  for (const [what, path, body, code, message] of cases) {
    it(what, async () => {
      const reply = await server.call('POST', path, { body });
      assert.equal(reply.code, code, reply.text);
      assert.equal(reply.body.kind, 'Status');
      if (typeof message === 'string') assert.equal(reply.body.message, message);
      else assert.match(reply.body.message, message);
    });
  }

  it('gives causes by field', async () => {
    const reply = await server.call('POST', PODS, { body: { metadata: { name: 'x' }, spec: { containers: [{}] } } });
    assert.deepEqual(
      reply.body.details.causes.map((cause: Body) => [cause.reason, cause.field]),
      [
        ['FieldValueRequired', 'spec.containers[0].name'],
        ['FieldValueRequired', 'spec.containers[0].image'],
      ],
    );
  });

  it('warns of unknown fields, or ignores them, as the client asks', async () => {
    const body = { ...configMap('warned'), dota: {} };
    const warned = await server.call('POST', `${CONFIG_MAPS}?fieldValidation=Warn`, { body });
    assert.deepEqual([warned.code, warned.headers['warning']], [201, '299 - "unknown field \\"dota\\""']);
    assert.equal(warned.body.dota, undefined);
    const ignored = await server.call('PUT', `${CONFIG_MAPS}/warned?fieldValidation=Ignore`, { body });
    assert.deepEqual([ignored.code, ignored.headers['warning']], [200, undefined]);
  });
});

describe('update', () => {
  it('refuses an old resourceVersion, and takes none as any', async () => {
    const first = await server.created(CONFIG_MAPS, configMap('conflict', { data: { a: '1' } }));
    const path = `${CONFIG_MAPS}/conflict`;
    const second = await server.call('PUT', path, { body: { ...first, data: { a: '2' } } });
    assert.equal(second.code, 200);
    const stale = await server.call('PUT', path, { body: { ...first, data: { a: '3' } } });
    assert.equal(stale.code, 409);
    assert.equal(
      stale.body.message,
      'Operation cannot be fulfilled on configmaps "conflict": the object has been modified; please apply your changes to the latest version and try again',
    );
    const unconditional = await server.call('PUT', path, { body: configMap('conflict', { data: { a: '4' } }) });
    assert.deepEqual([unconditional.code, unconditional.body.data.a], [200, '4']);
    assert.equal(unconditional.body.metadata.uid, first.metadata.uid);
  });

  it('writes nothing when nothing changes', async () => {
    const first = await server.created(CONFIG_MAPS, configMap('same', { data: { a: '1' } }));
    const again = await server.call('PUT', `${CONFIG_MAPS}/same`, { body: first });
    assert.equal(again.body.metadata.resourceVersion, first.metadata.resourceVersion);
  });

  it('keeps status out of the main resource and everything else out of the status one', async () => {
    const path = `${PODS}/parts`;
    const pod = await server.created(PODS, aPod('parts'));
    const main = await server.call('PUT', path, {
      body: { ...pod, metadata: { ...pod.metadata, labels: { l: '1' } }, status: { phase: 'Running' } },
    });
    assert.deepEqual([main.body.status.phase, main.body.metadata.labels], ['Pending', { l: '1' }]);
    const status = await server.call('PUT', `${path}/status`, {
      body: {
        ...main.body,
        spec: { ...main.body.spec, nodeName: 'n' },
        status: { phase: 'Running', podIPs: [{ ip: '10.244.0.5' }] },
      },
    });
    assert.equal(status.code, 200, status.text);
    assert.deepEqual(
      [status.body.status.phase, status.body.spec.nodeName, status.body.metadata.generation],
      ['Running', undefined, 1],
    );
  });

  it('counts generations of the desired state only', async () => {
    const path = '/apis/apps/v1/namespaces/default/deployments';
    const labels = { app: 'g' };
    await server.created(path, {
      metadata: { name: 'g' },
      spec: {
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'i' }] } },
      },
    });
    const labelled = await server.patch(`${path}/g`, 'merge', { metadata: { labels: { x: 'y' } } });
    assert.equal(labelled.body.metadata.generation, 1);
    const scaled = await server.patch(`${path}/g/scale`, 'merge', { spec: { replicas: 3 } });
    assert.deepEqual([scaled.body.kind, scaled.body.spec.replicas, scaled.body.status.selector], ['Scale', 3, 'app=g']);
    assert.equal((await server.get(`${path}/g`)).body.metadata.generation, 2);
    const status = await server.patch(`${path}/g/status`, 'merge', { status: { replicas: 3, observedGeneration: 2 } });
    assert.deepEqual([status.body.metadata.generation, status.body.status.replicas], [2, 3]);
    const moved = await server.patch(`${path}/g`, 'merge', {
      spec: { selector: { matchLabels: { app: 'h' } }, template: { metadata: { labels: { app: 'h' } } } },
    });
    assert.equal(moved.code, 422);
    assert.match(moved.body.message, /spec\.selector: Invalid value: .*: field is immutable/);
  });

  it('lets only images, deadlines and tolerations of a pod change', async () => {
    await server.created(PODS, aPod('fixed'));
    const image = await server.patch(`${PODS}/fixed`, 'strategic', {
      spec: { containers: [{ name: 'c', image: 'nginx:2' }] },
    });
    assert.deepEqual(
      [image.code, image.body.spec.containers[0].image, image.body.metadata.generation],
      [200, 'nginx:2', 2],
    );
    const moved = await server.patch(`${PODS}/fixed`, 'merge', { spec: { hostNetwork: true } });
    assert.equal(moved.code, 422);
    assert.match(moved.body.message, /pod updates may not change fields other than/);
  });

  it('creates Leases and Endpoints by PUT', async () => {
    const path = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1';
    const reply = await server.call('PUT', path, {
      body: { metadata: { name: 'n1' }, spec: { holderIdentity: 'n1', renewTime: '2026-01-02T03:04:05.678901Z' } },
    });
    assert.deepEqual([reply.code, reply.body.spec.renewTime], [201, '2026-01-02T03:04:05.678901Z']);
  });

  it('survives many concurrent patches of one object without losing one', async () => {
    await server.created(CONFIG_MAPS, configMap('busy'));
    const replies = await Promise.all(
      Array.from({ length: 40 }, (_, i) => server.patch(`${CONFIG_MAPS}/busy`, 'merge', { data: { [`k${i}`]: 'v' } })),
    );
    assert.ok(replies.every((reply) => reply.code === 200));
    assert.equal(Object.keys((await server.get(`${CONFIG_MAPS}/busy`)).body.data).length, 40);
  });
});

describe('patch', () => {
  it('JSON patch, refusing what does not fit and the prototype', async () => {
    await server.created(CONFIG_MAPS, configMap('jp', { data: { a: '1' } }));
    const path = `${CONFIG_MAPS}/jp`;
    const good = await server.patch(path, 'json', [
      { op: 'test', path: '/data/a', value: '1' },
      { op: 'add', path: '/data/b', value: '2' },
    ]);
    assert.deepEqual(good.body.data, { a: '1', b: '2' });
    assert.equal((await server.patch(path, 'json', [{ op: 'remove', path: '/data/zzz' }])).code, 422);
    assert.equal((await server.patch(path, 'json', [{ op: 'add', path: '/__proto__/polluted', value: 1 }])).code, 422);
    assert.equal((await server.patch(path, 'json', { not: 'a list' })).code, 400);
    assert.equal(({} as Body).polluted, undefined);
  });

  it('strategic merge patch: by key, with deletion, order and retained keys', async () => {
    const path = '/apis/apps/v1/namespaces/default/deployments';
    const labels = { app: 'sm' };
    await server.created(path, {
      metadata: { name: 'sm' },
      spec: {
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            containers: [
              { name: 'a', image: 'a:1', env: [{ name: 'X', value: '1' }] },
              { name: 'b', image: 'b:1' },
            ],
          },
        },
      },
    });
    const merged = await server.patch(`${path}/sm`, 'strategic', {
      spec: {
        strategy: { $retainKeys: ['type'], type: 'Recreate' },
        template: {
          spec: {
            '$setElementOrder/containers': [{ name: 'c' }, { name: 'a' }],
            containers: [
              { name: 'a', image: 'a:2' },
              { name: 'b', $patch: 'delete' },
              { name: 'c', image: 'c:1' },
            ],
          },
        },
      },
    });
    assert.equal(merged.code, 200, merged.text);
    assert.deepEqual(
      merged.body.spec.template.spec.containers.map((c: Body) => c.image),
      ['c:1', 'a:2'],
    );
    assert.deepEqual(merged.body.spec.template.spec.containers[1].env, [{ name: 'X', value: '1' }]);
    assert.deepEqual(merged.body.spec.strategy, { type: 'Recreate' });
  });

  it('says that server-side apply is not there yet', async () => {
    const headers = { 'content-type': 'application/apply-patch+yaml' };
    const reply = await server.call('PATCH', `${CONFIG_MAPS}/x?fieldManager=m`, { body: '{}', headers });
    assert.equal(reply.code, 415);
    assert.match(reply.body.message, /server-side apply/);
  });
});

describe('delete', () => {
  it('waits for finalizers', async () => {
    await server.created(CONFIG_MAPS, configMap('held', { metadata: { finalizers: ['example.com/hold'] } }));
    const path = `${CONFIG_MAPS}/held`;
    const asked = await server.call('DELETE', path);
    assert.equal(asked.code, 200);
    assert.ok(asked.body.metadata.deletionTimestamp);
    const added = await server.patch(path, 'merge', {
      metadata: { finalizers: ['example.com/hold', 'example.com/more'] },
    });
    assert.equal(added.code, 422);
    const released = await server.patch(path, 'merge', { metadata: { finalizers: null } });
    assert.equal(released.code, 200, released.text);
    assert.equal((await server.get(path)).code, 404);
  });

  it('a pod on a node gets its grace, and goes with grace 0', async () => {
    const path = `${PODS}/graceful`;
    const pod = await server.created(PODS, aPod('graceful'));
    const bound = await server.call('POST', `${path}/binding`, {
      body: { metadata: { name: 'graceful', uid: pod.metadata.uid }, target: { kind: 'Node', name: 'n1' } },
    });
    assert.equal(bound.code, 201, bound.text);
    const twice = await server.call('POST', `${path}/binding`, { body: { target: { kind: 'Node', name: 'n2' } } });
    assert.equal(twice.code, 409);
    const scheduled = (await server.get(path)).body;
    assert.equal(scheduled.spec.nodeName, 'n1');
    assert.equal(scheduled.status.conditions[0].type, 'PodScheduled');
    const asked = await server.call('DELETE', path, { body: { gracePeriodSeconds: 5 } });
    assert.deepEqual([asked.body.metadata.deletionGracePeriodSeconds, asked.code], [5, 200]);
    assert.equal(
      (await server.call('DELETE', `${path}?gracePeriodSeconds=60`)).body.metadata.deletionGracePeriodSeconds,
      5,
    );
    const status = await server.patch(`${path}/status`, 'merge', { status: { phase: 'Succeeded' } });
    assert.equal(status.code, 200);
    const ended = await server.call('DELETE', `${path}?gracePeriodSeconds=0`);
    assert.deepEqual([ended.code, (await server.get(path)).code], [200, 404]);
  });

  it('a pod without a node goes at once', async () => {
    await server.created(PODS, aPod('unscheduled'));
    assert.equal((await server.call('DELETE', `${PODS}/unscheduled`)).code, 200);
    assert.equal((await server.get(`${PODS}/unscheduled`)).code, 404);
  });

  it('holds to its preconditions', async () => {
    await server.created(CONFIG_MAPS, configMap('pre'));
    const reply = await server.call('DELETE', `${CONFIG_MAPS}/pre`, { body: { preconditions: { uid: 'other' } } });
    assert.deepEqual([reply.code, reply.body.reason], [409, 'Conflict']);
    const status = await server.call('DELETE', `${CONFIG_MAPS}/pre`);
    assert.deepEqual([status.body.kind, status.body.status, status.body.details.name], ['Status', 'Success', 'pre']);
  });

  it('a collection by labels', async () => {
    for (const name of ['one', 'two'])
      await server.created(CONFIG_MAPS, configMap(`coll-${name}`, { metadata: { labels: { coll: name } } }));
    const reply = await server.call('DELETE', `${CONFIG_MAPS}?labelSelector=coll=one`);
    assert.equal(reply.body.items.length, 1);
    assert.equal((await server.get(`${CONFIG_MAPS}/coll-one`)).code, 404);
    assert.equal((await server.get(`${CONFIG_MAPS}/coll-two`)).code, 200);
    assert.equal((await server.call('DELETE', '/api/v1/configmaps')).code, 405);
  });

  it('eviction deletes', async () => {
    await server.created(PODS, aPod('evicted'));
    const reply = await server.call('POST', `${PODS}/evicted/eviction`, {
      body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: 'evicted' } },
    });
    assert.equal(reply.code, 201);
    assert.equal((await server.get(`${PODS}/evicted`)).code, 404);
  });

  it('propagation policies leave their finalizers to the garbage collector', async () => {
    await server.created(CONFIG_MAPS, configMap('fg'));
    const reply = await server.call('DELETE', `${CONFIG_MAPS}/fg`, { body: { propagationPolicy: 'Foreground' } });
    assert.deepEqual(reply.body.metadata.finalizers, ['foregroundDeletion']);
  });
});

describe('namespaces', () => {
  it('end in two steps, and take nothing new meanwhile', async () => {
    await server.created('/api/v1/namespaces', { metadata: { name: 'ending' } });
    const path = '/api/v1/namespaces/ending';
    const asked = await server.call('DELETE', path);
    assert.deepEqual(
      [asked.code, asked.body.status.phase, asked.body.spec.finalizers],
      [200, 'Terminating', ['kubernetes']],
    );
    const refused = await server.call('POST', `${path}/configmaps`, { body: configMap('late') });
    assert.equal(refused.code, 403);
    assert.equal(
      refused.body.message,
      'configmaps "late" is forbidden: unable to create new content in namespace ending because it is being terminated',
    );
    assert.equal(refused.body.details.causes[0].reason, 'NamespaceTerminating');
    const current = (await server.get(path)).body;
    const ignored = await server.call('PUT', path, { body: { ...current, spec: {} } });
    assert.deepEqual(ignored.body.spec.finalizers, ['kubernetes']);
    const finalized = await server.call('PUT', `${path}/finalize`, { body: { ...current, spec: { finalizers: [] } } });
    assert.equal(finalized.code, 200, finalized.text);
    assert.equal((await server.get(path)).code, 404);
  });

  it('of the system stay', async () => {
    const reply = await server.call('DELETE', '/api/v1/namespaces/kube-system');
    assert.deepEqual(
      [reply.code, reply.body.message],
      [403, 'namespaces "kube-system" is forbidden: this namespace may not be deleted'],
    );
  });

  it('are labelled with their names', async () => {
    const made = await server.created('/api/v1/namespaces', { metadata: { generateName: 'auto-' } });
    assert.equal(made.metadata.labels['kubernetes.io/metadata.name'], made.metadata.name);
  });
});

describe('other kinds', () => {
  it('Secret: stringData becomes data; immutable data stays', async () => {
    const path = '/api/v1/namespaces/default/secrets';
    const made = await server.created(path, { metadata: { name: 's' }, stringData: { a: 'x' }, immutable: true });
    assert.deepEqual([made.data, made.stringData, made.type], [{ a: 'eA==' }, undefined, 'Opaque']);
    const changed = await server.patch(`${path}/s`, 'merge', { data: { a: 'eQ==' } });
    assert.match(changed.body.message, /data: Forbidden: field is immutable when `immutable` is set/);
  });

  it('NetworkPolicy: policy types follow the rules', async () => {
    const path = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';
    const both = await server.created(path, { metadata: { name: 'both' }, spec: { podSelector: {}, egress: [{}] } });
    assert.deepEqual([both.spec.policyTypes, both.spec.podSelector], [['Ingress', 'Egress'], {}]);
    const one = await server.created(path, {
      metadata: { name: 'one' },
      spec: { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] },
    });
    assert.deepEqual([one.spec.policyTypes, one.spec.ingress[0].ports[0].protocol], [['Ingress'], 'TCP']);
  });

  it('the Service of the API itself, with its endpoints', async () => {
    const service = (await server.get('/api/v1/namespaces/default/services/kubernetes')).body;
    assert.deepEqual([service.spec.clusterIP, service.spec.ports[0].port], ['10.96.0.1', 443]);
    const slice = (await server.get('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes')).body;
    assert.deepEqual([slice.endpoints[0].addresses, slice.ports[0].port], [['172.18.0.1'], 6443]);
  });
});
