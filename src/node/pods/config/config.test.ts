import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { corev1, Pod, PodSpec } from '../../../kube/types.ts';
import { kernelHostname, parseResolvConf, podHostname, podResolver, renderHostsFile } from './network-files.ts';
import { containerResources, cpuQuota, cpuShares, qosClass } from './resources.ts';
import { containerSecurity, namespaceOptions, sandboxSecurity } from './security.ts';

const pod = (spec: Partial<PodSpec> = {}, name = 'web'): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'ns', uid: 'u', resourceVersion: '1', creationTimestamp: '' },
  spec: { containers: [{ name: 'c' }], ...spec },
});

const resources = (limits?: Record<string, string>, requests?: Record<string, string>) =>
  ({ name: 'c', resources: { ...(limits ? { limits } : {}), ...(requests ? { requests } : {}) } }) as corev1.Container;

test('QoS classes', () => {
  const both = { cpu: '1', memory: '1Gi' };
  const table: readonly (readonly [corev1.Container[], string])[] = [
    [[resources()], 'BestEffort'],
    [[resources(both)], 'Guaranteed'],
    [[resources(both, both)], 'Guaranteed'],
    [[resources(both, { cpu: '500m' })], 'Burstable'],
    [[resources({ cpu: '1' })], 'Burstable'],
    [[resources(both), resources()], 'Burstable'],
    [[resources(undefined, { cpu: '0' })], 'BestEffort'],
  ];
  for (const [containers, expected] of table) assert.equal(qosClass({ containers }), expected);
});

test('cgroup values', () => {
  assert.equal(cpuShares(0), 2);
  assert.equal(cpuShares(1000), 1024);
  assert.equal(cpuQuota(500), 50_000);
  assert.equal(cpuQuota(1), 1000);
  const container = resources({ cpu: '500m', memory: '64Mi' }, { cpu: '250m', memory: '32Mi' });
  assert.deepEqual(containerResources({ containers: [container] }, container, 1 << 30), {
    cpuPeriod: 100_000,
    cpuShares: 256,
    cpuQuota: 50_000,
    memoryLimitInBytes: 64 << 20,
    oomScoreAdj: 969,
  });
  assert.deepEqual(containerResources({ containers: [resources()] }, resources(), 1 << 30), {
    cpuPeriod: 100_000,
    cpuShares: 2,
    oomScoreAdj: 1000,
  });
});

test('security: namespaces, users, capabilities', () => {
  assert.deepEqual(namespaceOptions(pod()), { network: 'POD', pid: 'CONTAINER', ipc: 'POD' });
  assert.deepEqual(namespaceOptions(pod({ hostNetwork: true, hostPID: true, hostIPC: true })), {
    network: 'NODE',
    pid: 'NODE',
    ipc: 'NODE',
  });
  assert.equal(namespaceOptions(pod({ shareProcessNamespace: true })).pid, 'POD');
  const root = { uid: 0, username: '' };
  const one = pod({ securityContext: { runAsUser: 1, fsGroup: 5, supplementalGroups: [6] } });
  const context = containerSecurity(
    one,
    {
      name: 'c',
      securityContext: {
        runAsUser: 2,
        capabilities: { add: ['CAP_NET_ADMIN'], drop: ['ALL'] },
        allowPrivilegeEscalation: false,
      },
    },
    root,
  );
  assert.deepEqual(context.runAsUser, { value: 2 });
  assert.deepEqual(context.supplementalGroups, [6, 5]);
  assert.deepEqual(context.capabilities, { addCapabilities: ['NET_ADMIN'], dropCapabilities: ['ALL'] });
  assert.equal(context.noNewPrivs, true);
  assert.equal(context.seccomp?.profileType, 'Unconfined');
  const privileged = pod({ containers: [{ name: 'c', securityContext: { privileged: true } }] });
  assert.equal(sandboxSecurity(privileged).privileged, true);
});

test('security: the sandbox is filtered where others can reach its process, or the pod asks for it', () => {
  const profileOf = (spec: Parameters<typeof pod>[0]) => sandboxSecurity(pod(spec)).seccomp?.profileType;
  assert.equal(profileOf({}), 'Unconfined');
  assert.equal(profileOf({ shareProcessNamespace: true }), 'RuntimeDefault');
  assert.equal(profileOf({ hostPID: true }), 'RuntimeDefault');
  assert.equal(profileOf({ securityContext: { seccompProfile: { type: 'RuntimeDefault' } } }), 'RuntimeDefault');
});

test('security: a group beside the user of the image', () => {
  const one = pod({ securityContext: { runAsGroup: 7 } });
  const user = (image: { uid: number | undefined; username: string }) => {
    const { runAsUser, runAsUsername, runAsGroup } = containerSecurity(one, { name: 'c' }, image);
    return { runAsUser, runAsUsername, runAsGroup };
  };
  assert.deepEqual(user({ uid: 3, username: '' }), {
    runAsUser: { value: 3 },
    runAsUsername: undefined,
    runAsGroup: { value: 7 },
  });
  assert.equal(user({ uid: undefined, username: 'nginx' }).runAsUsername, 'nginx');
});

test('security: runAsNonRoot', () => {
  const one = pod({ securityContext: { runAsNonRoot: true } });
  const check =
    (container: Partial<corev1.Container>, uid: number | undefined, username = '') =>
    () =>
      containerSecurity(one, { name: 'c', ...container }, { uid, username });
  assert.throws(check({}, 0), /image will run as root/);
  assert.throws(check({}, undefined), /image will run as root/);
  assert.throws(check({}, undefined, 'nginx'), /non-numeric user \(nginx\)/);
  assert.throws(check({ securityContext: { runAsUser: 0 } }, 5), /breaks non-root policy/);
  check({}, 5)();
  check({ securityContext: { runAsUser: 9 } }, 0)();
});

test('host names', () => {
  assert.equal(podHostname(pod({}, `${'a'.repeat(62)}.b`)), 'a'.repeat(62));
  assert.equal(podHostname(pod({ hostname: 'h' })), 'h');
  const fqdn = pod({ hostname: 'h', subdomain: 's', setHostnameAsFQDN: true });
  assert.equal(kernelHostname(fqdn, 'cluster.local'), 'h.s.ns.svc.cluster.local');
});

test('hosts files', () => {
  const aliases = [{ ip: '10.0.0.1', hostnames: ['a', 'b'] }];
  const text = renderHostsFile(
    pod({ subdomain: 's', hostAliases: aliases }),
    ['10.244.0.2', 'fd00::2'],
    'cluster.local',
  );
  assert.ok(text.startsWith('# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n'));
  assert.ok(text.includes('10.244.0.2\tweb.s.ns.svc.cluster.local\tweb\nfd00::2\tweb.s.ns.svc.cluster.local\tweb\n'));
  assert.ok(text.endsWith('# Entries added by HostAliases.\n10.0.0.1\ta\tb\n'));
  const host = renderHostsFile(pod({ hostNetwork: true }), ['1.1.1.1'], 'cluster.local', '127.0.0.1 localhost me\n');
  assert.equal(host, '# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost me\n');
});

test('resolvers by policy', () => {
  const node = parseResolvConf('# c\nnameserver 9.9.9.9\nsearch corp.example ; x\noptions timeout:2\n');
  assert.deepEqual(node, { servers: ['9.9.9.9'], searches: ['corp.example'], options: ['timeout:2'] });
  const input = { clusterDns: ['10.96.0.10', 'fd00:10:96::a'], clusterDomain: 'cluster.local', node };
  const cluster = {
    servers: ['10.96.0.10', 'fd00:10:96::a'],
    searches: ['ns.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'corp.example'],
    options: ['ndots:5'],
  };
  const table: readonly (readonly [Partial<PodSpec>, object])[] = [
    [{}, cluster],
    [{ dnsPolicy: 'ClusterFirst' }, cluster],
    [{ dnsPolicy: 'ClusterFirst', hostNetwork: true }, node],
    [{ dnsPolicy: 'ClusterFirstWithHostNet', hostNetwork: true }, cluster],
    [{ dnsPolicy: 'Default' }, node],
    [
      { dnsPolicy: 'None', dnsConfig: { nameservers: ['1.2.3.4'], searches: ['x'], options: [{ name: 'edns0' }] } },
      { servers: ['1.2.3.4'], searches: ['x'], options: ['edns0'] },
    ],
    [
      { dnsConfig: { nameservers: ['10.96.0.10'], options: [{ name: 'ndots', value: '2' }] } },
      { ...cluster, options: ['ndots:2'] },
    ],
  ];
  for (const [spec, expected] of table) assert.deepEqual(podResolver(pod(spec), input).config, expected);
  const without = podResolver(pod(), { ...input, clusterDns: [] });
  assert.deepEqual(without.config, node);
  assert.match(without.warnings[0]!, /ClusterDNS/);
  const many = podResolver(pod({ dnsConfig: { nameservers: ['1.1.1.1', '2.2.2.2'] } }), input);
  assert.equal(many.config.servers.length, 3);
  assert.match(many.warnings[0]!, /Nameserver limits/);
});
