/** Bodies in protobuf over HTTP: a real client's, and what becomes of fields that the server does not know. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { currentKubectlMissing } from '../kubectl-version.ts';
import { type Body, TestServer } from './fixtures/api-server.ts';

const NAMESPACE = '/api/v1/namespaces/default';

/** One field: a text, a message, or a number below 128. */
function field(number: number, value: string | Buffer | number): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  return value < 0x80 ? Buffer.from([value]) : Buffer.from([(value & 0x7f) | 0x80, value >> 7]);
}

/** A ConfigMap in the envelope of runtime.Unknown. */
function configMap(name: string, ...more: readonly Buffer[]): Buffer {
  const raw = Buffer.concat([field(1, field(1, name)), ...more]);
  const typeMeta = Buffer.concat([field(1, 'v1'), field(2, 'ConfigMap')]);
  return Buffer.concat([Buffer.from('k8s\0'), field(1, typeMeta), field(2, raw)]);
}

const headers = { 'content-type': 'application/vnd.kubernetes.protobuf' };

describe('protobuf', () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  const create = (body: Buffer, query = '', collection = 'configmaps') =>
    server.call('POST', `${NAMESPACE}/${collection}${query}`, { body, headers });

  it('is what an object can come in; the answer is JSON', async () => {
    const entry = Buffer.concat([field(1, '__proto__'), field(2, 'a value')]);
    const { code, body } = await create(configMap('plain', field(2, entry), field(4, 1)));
    assert.equal(code, 201);
    assert.deepEqual(Object.entries(body.data), [['__proto__', 'a value']]);
    assert.equal(body.immutable, true);
  });

  it('meets with unknown fields what JSON meets', async () => {
    const strange = (name: string) => configMap(name, field(77, 'set'));
    const strict = await create(strange('strict'), '?fieldValidation=Strict');
    assert.equal(strict.code, 400);
    assert.match(strict.body.message, /strict decoding error: unknown field "protobuf field 77"/);
    const warned = await create(strange('warned'));
    assert.equal(warned.code, 201);
    assert.match(String(warned.headers['warning']), /unknown field .*protobuf field 77/);
    const ignored = await create(strange('ignored'), '?fieldValidation=Ignore');
    assert.equal(ignored.code, 201);
    assert.equal(ignored.headers['warning'], undefined);
    assert.deepEqual(Object.keys(ignored.body).sort(), ['apiVersion', 'kind', 'metadata']);
    const unset = await create(configMap('unset', field(77, '')), '?fieldValidation=Strict');
    assert.equal(unset.code, 201);
  });

  it('is refused for another kind than the path names', async () => {
    const { code, body } = await create(configMap('astray'), '', 'secrets');
    assert.equal(code, 400);
    assert.match(body.message, /does not match the expected kind \(Secret\)/);
  });
});

/** Uses what PodSpec has, as far as a pod can be valid with all of it and kubectl 1.32 knows it. */
const RICH_POD = `
apiVersion: v1
kind: Pod
metadata: { name: rich, labels: { a: b, c: "" }, annotations: { note: "ümlaut\\nline" } }
spec:
  activeDeadlineSeconds: 1000
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions: [{ key: zone, operator: In, values: [a, b] }]
          matchFields: [{ key: metadata.name, operator: NotIn, values: [x] }]
      preferredDuringSchedulingIgnoredDuringExecution:
      - { weight: 3, preference: { matchExpressions: [{ key: disk, operator: Exists }] } }
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - { topologyKey: zone, namespaces: [default], labelSelector: { matchLabels: { a: b } }, matchLabelKeys: [k] }
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm: { topologyKey: host, namespaceSelector: {}, mismatchLabelKeys: [k], labelSelector: { matchExpressions: [{ key: a, operator: DoesNotExist }] } }
  automountServiceAccountToken: false
  dnsPolicy: None
  dnsConfig: { nameservers: [192.0.2.53], searches: [example.org], options: [{ name: ndots, value: "2" }, { name: debug }] }
  enableServiceLinks: false
  hostAliases: [{ ip: 192.0.2.1, hostnames: [one, two] }]
  hostname: rich
  subdomain: sub
  imagePullSecrets: [{ name: pull }]
  initContainers:
  - { name: init, image: busybox, args: [a, b], restartPolicy: Always }
  nodeSelector: { zone: a }
  os: { name: linux }
  overhead: { cpu: 10m }
  readinessGates: [{ conditionType: example.org/ready }]
  restartPolicy: OnFailure
  runtimeClassName: fast
  schedulerName: other
  securityContext:
    fsGroup: 10
    fsGroupChangePolicy: OnRootMismatch
    runAsGroup: 11
    runAsNonRoot: true
    runAsUser: 12
    seLinuxOptions: { user: u, role: r, type: t, level: l }
    seccompProfile: { type: Localhost, localhostProfile: a.json }
    supplementalGroups: [13, 14]
    supplementalGroupsPolicy: Strict
    sysctls: [{ name: net.ipv4.ip_unprivileged_port_start, value: "0" }]
  setHostnameAsFQDN: false
  shareProcessNamespace: false
  terminationGracePeriodSeconds: 7
  tolerations:
  - { key: k, operator: Equal, value: v, effect: NoExecute, tolerationSeconds: 5 }
  - { operator: Exists }
  topologySpreadConstraints:
  - { maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { a: b } }, minDomains: 2, nodeAffinityPolicy: Honor, nodeTaintsPolicy: Ignore, matchLabelKeys: [k] }
  containers:
  - name: main
    image: nginx
    command: [sh, -c]
    args: [sleep 1]
    workingDir: /work
    env:
    - { name: PLAIN, value: x }
    - { name: FIELD, valueFrom: { fieldRef: { fieldPath: status.podIP } } }
    - { name: AMOUNT, valueFrom: { resourceFieldRef: { containerName: main, resource: limits.cpu, divisor: 1m } } }
    - { name: MAP, valueFrom: { configMapKeyRef: { name: cm, key: k, optional: true } } }
    - { name: SECRET, valueFrom: { secretKeyRef: { name: s, key: k, optional: false } } }
    envFrom:
    - { prefix: P_, configMapRef: { name: cm, optional: true } }
    - { secretRef: { name: s } }
    ports: [{ name: web, containerPort: 80, hostPort: 8080, hostIP: 192.0.2.9, protocol: UDP }]
    lifecycle:
      postStart: { exec: { command: ["true"] } }
      preStop: { sleep: { seconds: 3 } }
    livenessProbe: { httpGet: { path: /live, port: web, host: example.org, scheme: HTTPS, httpHeaders: [{ name: A, value: b }] }, initialDelaySeconds: 1, timeoutSeconds: 2, periodSeconds: 3, failureThreshold: 4, terminationGracePeriodSeconds: 5 }
    readinessProbe: { tcpSocket: { port: 80, host: example.org }, successThreshold: 2 }
    startupProbe: { grpc: { port: 9, service: health } }
    resources: { limits: { cpu: "1", memory: 1Gi }, requests: { cpu: 100m, memory: 64Mi } }
    resizePolicy: [{ resourceName: cpu, restartPolicy: NotRequired }]
    securityContext:
      allowPrivilegeEscalation: false
      appArmorProfile: { type: RuntimeDefault }
      capabilities: { add: [NET_ADMIN], drop: [ALL] }
      privileged: false
      procMount: Default
      readOnlyRootFilesystem: true
      runAsUser: 0
    stdin: true
    stdinOnce: true
    tty: true
    terminationMessagePath: /tmp/end
    terminationMessagePolicy: FallbackToLogsOnError
    imagePullPolicy: Never
    volumeDevices: [{ name: claim, devicePath: /dev/x }]
    volumeMounts:
    - { name: empty, mountPath: /empty, readOnly: true, recursiveReadOnly: Disabled }
    - { name: host, mountPath: /host, mountPropagation: HostToContainer, subPathExpr: $(PLAIN) }
    - { name: map, mountPath: /map, subPath: sub }
  volumes:
  - { name: empty, emptyDir: { medium: Memory, sizeLimit: 1Mi } }
  - { name: host, hostPath: { path: /tmp, type: Directory } }
  - { name: map, configMap: { name: cm, optional: true, defaultMode: 0600, items: [{ key: k, path: p, mode: 0400 }] } }
  - { name: secret, secret: { secretName: s, optional: false, defaultMode: 0400, items: [{ key: k, path: p }] } }
  - { name: down, downwardAPI: { defaultMode: 0444, items: [{ path: p, mode: 0400, resourceFieldRef: { containerName: main, resource: limits.memory } }] } }
  - { name: claim, persistentVolumeClaim: { claimName: c, readOnly: true } }
  - { name: nfs, nfs: { server: example.org, path: /, readOnly: true } }
  - { name: image, image: { reference: busybox, pullPolicy: Never } }
  - { name: csi, csi: { driver: d, readOnly: true, fsType: ext4, volumeAttributes: { a: b }, nodePublishSecretRef: { name: s } } }
  - { name: ephemeral, ephemeral: { volumeClaimTemplate: { metadata: { labels: { a: b } }, spec: { accessModes: [ReadWriteOnce], storageClassName: "", volumeName: v, selector: { matchLabels: { a: b } }, resources: { requests: { storage: 1Gi }, limits: { storage: 2Gi } }, dataSource: { apiGroup: g, kind: K, name: nm }, dataSourceRef: { apiGroup: g, kind: K, name: nm, namespace: m }, volumeAttributesClassName: c } } } }
  - { name: iscsi, iscsi: { targetPortal: p, iqn: q, lun: 0, iscsiInterface: i, fsType: f, readOnly: true, portals: [a], chapAuthDiscovery: true, chapAuthSession: true, secretRef: { name: s }, initiatorName: nm } }
  - { name: fc, fc: { targetWWNs: [a], lun: 0, fsType: f, readOnly: true, wwids: [b] } }
  - { name: flex, flexVolume: { driver: d, fsType: f, secretRef: { name: s }, readOnly: true, options: { a: b } } }
  - { name: gce, gcePersistentDisk: { pdName: p, fsType: f, partition: 1, readOnly: true } }
  - { name: aws, awsElasticBlockStore: { volumeID: v, fsType: f, partition: 1, readOnly: true } }
  - { name: cinder, cinder: { volumeID: v, fsType: f, readOnly: true, secretRef: { name: s } } }
  - { name: azure-file, azureFile: { secretName: s, shareName: h, readOnly: true } }
  - { name: azure-disk, azureDisk: { diskName: d, diskURI: u, cachingMode: None, fsType: xfs, readOnly: true, kind: Managed } }
  - { name: vsphere, vsphereVolume: { volumePath: p, fsType: f, storagePolicyName: nm, storagePolicyID: i } }
  - { name: photon, photonPersistentDisk: { pdID: p, fsType: f } }
  - { name: git, gitRepo: { repository: r, revision: v, directory: d } }
  - { name: gluster, glusterfs: { endpoints: e, path: p, readOnly: true } }
  - { name: rbd, rbd: { monitors: [m], image: i, fsType: f, pool: p, user: u, keyring: k, secretRef: { name: s }, readOnly: true } }
  - { name: cephfs, cephfs: { monitors: [m], path: p, user: u, secretFile: f, secretRef: { name: s }, readOnly: true } }
  - { name: flocker, flocker: { datasetName: nm, datasetUUID: u } }
  - { name: quobyte, quobyte: { registry: r, volume: v, readOnly: true, user: u, group: g, tenant: t } }
  - { name: portworx, portworxVolume: { volumeID: v, fsType: f, readOnly: true } }
  - { name: scale-io, scaleIO: { gateway: g, system: s, secretRef: { name: s }, sslEnabled: true, protectionDomain: d, storagePool: p, storageMode: ThickProvisioned, volumeName: v, fsType: f, readOnly: true } }
  - { name: storageos, storageos: { volumeName: v, volumeNamespace: nm, fsType: f, readOnly: true, secretRef: { name: s } } }
  - name: projected
    projected:
      defaultMode: 0440
      sources:
      - { secret: { name: s, optional: true, items: [{ key: k, path: p }] } }
      - { configMap: { name: cm, optional: true, items: [{ key: k, path: q }] } }
      - { downwardAPI: { items: [{ path: r, fieldRef: { fieldPath: metadata.name } }] } }
      - { serviceAccountToken: { audience: a, expirationSeconds: 700, path: t } }
      - { clusterTrustBundle: { name: nm, path: b, optional: true } }
      - { clusterTrustBundle: { signerName: example.org/s, labelSelector: {}, path: c } }
`;

describe('a pod that kubectl debug copies', { skip: currentKubectlMissing() }, () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  it('has every field of the pod that came in JSON (kubectl since 1.32 sends the copy in protobuf)', async () => {
    const run = async (args: readonly string[], input?: string) => {
      const { code, err } = await server.kubectl('kubectl', args, input);
      assert.equal(code, 0, err);
    };
    await run(['create', '--validate=strict', '-f', '-'], RICH_POD);
    const keeps = ['labels', 'annotations', 'liveness', 'readiness', 'startup'].map((what) => `--keep-${what}`);
    const copying = ['--copy-to=copy', '--set-image=main=nginx', '--share-processes=false', ...keeps];
    await run(['debug', 'rich', ...copying]);
    const [original, copy] = await Promise.all(
      ['rich', 'copy'].map(async (name) => (await server.get(`${NAMESPACE}/pods/${name}`)).body as Body),
    );
    assert.deepEqual(copy.spec, original.spec);
    assert.deepEqual(copy.metadata.labels, original.metadata.labels);
    assert.deepEqual(copy.metadata.annotations, original.metadata.annotations);
  });
});
