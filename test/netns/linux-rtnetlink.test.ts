import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { isExists, isNotFound, KernelError } from '../../src/linux/errors.ts';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { type Operation, ROUTE_PROTOCOL_PODWIRE, Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();

/** What iproute2 makes of the same state: the independent witness. */
function ip(ns: NetworkNamespace, ...words: string[]): string {
  return execFileSync('nsenter', [`--net=${ns.path}`, 'ip', ...words], { encoding: 'utf8' });
}

test('veth with a peer in another namespace', { skip }, () => {
  const [a, b] = [make('veth-a'), make('veth-b')];
  using left = Rtnetlink.open(a);
  using right = Rtnetlink.open(b);
  const ifindex = left.createVeth({
    name: 'veth0',
    mac: '02:00:00:00:00:01',
    mtu: 1400,
    up: true,
    group: 7,
    peer: { name: 'eth0', mac: '02:00:00:00:00:02', mtu: 1400, up: true, netns: b },
  });
  const near = left.link('veth0');
  const far = right.link('eth0');
  assert.deepEqual(
    [near?.ifindex, near?.mac, near?.mtu, near?.up, near?.kind, near?.group, near?.peerIfindex],
    [ifindex, '02:00:00:00:00:01', 1400, true, 'veth', 7, far?.ifindex],
  );
  assert.notEqual(near?.peerNetnsId, undefined);
  assert.deepEqual([far?.mac, far?.peerIfindex, far?.group], ['02:00:00:00:00:02', ifindex, 0]);
  assert.match(ip(b, '-br', 'link', 'show', 'eth0'), /02:00:00:00:00:02/);
  assert.deepEqual(
    left.links({ kind: 'veth' }).map((link) => link.name),
    ['veth0'],
  );
});

test('errors carry operation, errno and the kernel’s words', { skip }, () => {
  using links = Rtnetlink.open(make('errors'));
  links.createVeth({ name: 'v0', peer: { name: 'v1' } });
  assert.throws(() => links.createVeth({ name: 'v0', peer: { name: 'v2' } }), isExists);
  assert.throws(() => links.deleteLink('none'), isNotFound);
  assert.equal(links.ensureNoLink('none'), false);
  assert.equal(links.ensureNoLink('v0'), true);
  assert.equal(links.link('v1'), undefined);
  assert.throws(
    () => links.replaceRoute({ destination: '10.1.2.3/24', device: 'lo' }),
    (error) =>
      error instanceof KernelError &&
      error.code === 'EINVAL' &&
      error.operation === 'replace route 10.1.2.3/24 dev lo' &&
      (error.kernelMessage ?? '').length > 0,
  );
  assert.throws(() => links.createLink({ name: 'x', kind: 'no-such-kind' }), KernelError);
  assert.throws(() => links.createBridge({ name: 'a-name-that-is-too-long' }), TypeError);
});

test('bridge, ports and renames', { skip }, () => {
  const ns = make('bridge');
  using links = Rtnetlink.open(ns);
  const bridge = links.createBridge({ name: 'br0', up: true, stp: false, multicastSnooping: false, mtu: 1450 });
  links.createVeth({ name: 'p0', peer: { name: 'p1' } });
  links.setLink('p0', { master: 'br0', up: true });
  links.setBridgePort('p0', { hairpin: true, isolated: true });
  assert.deepEqual(
    links.links({ master: 'br0' }).map((link) => link.name),
    ['p0'],
  );
  assert.match(ip(ns, '-d', 'link', 'show', 'p0'), /hairpin on.*isolated on/s);
  assert.equal(links.link('p0')?.master, bridge);
  links.setLink('p0', { master: null, up: false });
  links.setLink('p0', { name: 'renamed', alias: 'a pod', mtu: 1300, mac: '02:00:00:00:00:09', group: 3 });
  const renamed = links.link('renamed');
  assert.deepEqual(
    [renamed?.master, renamed?.up, renamed?.alias, renamed?.mtu, renamed?.mac, renamed?.group],
    [undefined, false, 'a pod', 1300, '02:00:00:00:00:09', 3],
  );
});

test('a link moves to another namespace under a new name', { skip }, () => {
  const [from, to] = [make('move-from'), make('move-to')];
  using source = Rtnetlink.open(from);
  using target = Rtnetlink.open(to);
  source.createVeth({ name: 'tmp0', peer: { name: 'tmp1' } });
  source.setLink('tmp1', { netns: to, name: 'eth0' });
  assert.equal(source.link('tmp1'), undefined);
  assert.equal(target.link('eth0')?.kind, 'veth');
});

test('deleteGroup takes all of a group and only those', { skip }, () => {
  using links = Rtnetlink.open(make('group'));
  for (let i = 0; i < 5; i++) links.createVeth({ name: `g${i}`, group: 42, peer: { name: `h${i}` } });
  links.createVeth({ name: 'stays', peer: { name: 'stays-too' } });
  links.deleteGroup(42);
  links.deleteGroup(42);
  assert.deepEqual(
    links
      .links({ kind: 'veth' })
      .map((link) => link.name)
      .sort(),
    ['stays', 'stays-too'],
  );
  assert.throws(() => links.deleteGroup(0), TypeError);
});

for (const { family, local, remote, network } of [
  { family: 4, local: '192.0.2.1', remote: '192.0.2.2', network: '10.244.3.0' },
  { family: 6, local: '2001:db8::1', remote: '2001:db8::2', network: 'fd00:10:244:3::' },
] as const) {
  test(`vxlan over IPv${family} with neighbours and forwarding entries`, { skip }, (t) => {
    const ns = make(`vxlan${family}`);
    using links = Rtnetlink.open(ns);
    try {
      links.createVxlan({ name: 'vx0', vni: 1, port: 8472, local, mac: '02:00:00:00:01:00', mtu: 1450, up: true });
    } catch (error) {
      if (error instanceof KernelError && error.code === 'EOPNOTSUPP') return t.skip('this kernel has no vxlan');
      throw error;
    }
    const vxlan = links.link('vx0');
    assert.deepEqual(
      [vxlan?.mtu, vxlan?.vxlan?.vni, vxlan?.vxlan?.port, vxlan?.vxlan?.local, vxlan?.vxlan?.learning],
      [1450, 1, 8472, local, false],
    );
    const mac = '02:00:00:00:01:02';
    links.replaceFdb({ device: 'vx0', mac, destination: local });
    links.replaceFdb({ device: 'vx0', mac, destination: remote });
    assert.deepEqual(
      links.fdb({ device: 'vx0' }).map((entry) => [entry.mac, entry.destination, entry.self, entry.state]),
      [[mac, remote, true, 'permanent']],
    );
    const gateway = family === 4 ? '10.244.3.0' : 'fd00:10:244:3::';
    links.replaceNeighbour({ device: 'vx0', address: gateway, mac });
    assert.deepEqual(
      links
        .neighbours({ device: 'vx0', family })
        .filter((n) => n.state === 'permanent')
        .map((n) => [n.address, n.mac]),
      [[gateway, mac]],
    );
    const prefix = family === 4 ? 24 : 64;
    links.replaceRoute({ destination: `${network}/${prefix}`, via: gateway, device: 'vx0', onlink: true });
    const [route] = links.routes({ family, protocol: ROUTE_PROTOCOL_PODWIRE });
    assert.deepEqual(
      [route?.destination, route?.via, route?.ifindex, route?.onlink],
      [`${network}/${prefix}`, gateway, vxlan?.ifindex, true],
    );
    links.deleteFdb({ device: 'vx0', mac, destination: remote });
    links.deleteNeighbour({ device: 'vx0', address: gateway });
    assert.deepEqual(links.fdb({ device: 'vx0' }), []);
    assert.throws(() => links.deleteNeighbour({ device: 'vx0', address: gateway }), isNotFound);
    // The all-zero entry may have several destinations.
    const zero = '00:00:00:00:00:00';
    for (const host of [1, 2]) {
      links.appendFdb({
        device: 'vx0',
        mac: zero,
        destination: family === 4 ? `192.0.2.${host}` : `2001:db8::${host}`,
      });
    }
    assert.equal(links.fdb({ device: 'vx0' }).filter((entry) => entry.mac === zero).length, 2);
  });

  test(`IPv${family} addresses`, { skip }, () => {
    const ns = make(`addr${family}`);
    using links = Rtnetlink.open(ns);
    links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
    const address = `${local}/${family === 4 ? 24 : 64}`;
    links.addAddress({ device: 'v0', address, nodad: true });
    assert.throws(() => links.addAddress({ device: 'v0', address }), isExists);
    links.replaceAddress({ device: 'v0', address, nodad: true });
    const found = links.addresses({ device: 'v0', family }).filter((item) => item.scope === 'universe');
    assert.deepEqual(
      found.map((item) => [item.address, item.prefix, item.tentative, item.permanent]),
      [[local, family === 4 ? 24 : 64, false, true]],
    );
    links.deleteAddress({ device: 'v0', address });
    assert.throws(() => links.deleteAddress({ device: 'v0', address }), isNotFound);
    // A host address with link scope, as a pod's side has it.
    links.addAddress({ device: 'v0', address: local, scope: 'link', nodad: true, noPrefixRoute: true });
    const [host] = links.addresses({ device: 'v0', family }).filter((item) => item.address === local);
    assert.deepEqual([host?.prefix, host?.noPrefixRoute], [family === 4 ? 32 : 128, true]);
    if (family === 4) assert.equal(host?.scope, 'link');
  });

  test(`IPv${family} routes of every type`, { skip }, () => {
    const ns = make(`route${family}`);
    using links = Rtnetlink.open(ns);
    links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
    links.addAddress({ device: 'v0', address: `${local}/${family === 4 ? 24 : 64}`, nodad: true });
    const [blocked, closed, routed, many, everywhere] =
      family === 4
        ? ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/24', '10.4.0.0/24', '0.0.0.0/0']
        : ['fd01::/64', 'fd02::/64', 'fd03::/64', 'fd04::/64', '::/0'];
    links.replaceRoute({ destination: blocked, type: 'blackhole' });
    links.replaceRoute({ destination: closed, type: 'unreachable' });
    links.replaceRoute({ destination: routed, via: remote, mtu: 1300, source: local, metric: 50 });
    links.replaceRoute({
      destination: many,
      nexthops: [
        { via: remote, weight: 2 },
        { device: 'v0', via: `${remote}0` },
      ],
    });
    links.replaceRoute({ destination: everywhere, via: remote, table: 1000 });
    const own = links.routes({ family, protocol: ROUTE_PROTOCOL_PODWIRE });
    assert.deepEqual(
      own.map((route) => [route.destination, route.type, route.table]).sort(),
      [
        [blocked, 'blackhole', 254],
        [closed, 'unreachable', 254],
        [routed, 'unicast', 254],
        [many, 'unicast', 254],
        [everywhere, 'unicast', 1000],
      ].sort(),
    );
    const found = own.find((route) => route.destination === routed);
    assert.deepEqual([found?.mtu, found?.source, found?.metric, found?.via], [1300, local, 50, remote]);
    assert.deepEqual(
      own.find((route) => route.destination === many)?.nexthops.map((hop) => [hop.via, hop.weight]),
      [
        [remote, 2],
        [`${remote}0`, 1],
      ],
    );
    assert.equal(links.routes({ family, table: 1000 }).length, 1);
    assert.deepEqual(links.routes({ family, table: 4242 }), []);
    assert.equal(links.routes({ family, type: 'blackhole' }).length, 1);
    assert.equal(links.lookupRoute(family === 4 ? '10.3.0.9' : 'fd03::9')?.via, remote);
    assert.equal(links.lookupRoute(family === 4 ? '10.2.0.9' : 'fd02::9')?.via, undefined);
    assert.match(ip(ns, family === 4 ? '-4' : '-6', 'route', 'show', routed), /mtu 1300/);
    links.deleteRoute({ destination: blocked, type: 'blackhole' });
    links.deleteRoute({ destination: closed, type: 'unreachable' });
    links.deleteRoute({ destination: routed, metric: 50 });
    links.deleteRoute({ destination: many });
    links.deleteRoute({ destination: everywhere, table: 1000 });
    assert.deepEqual(links.routes({ family, protocol: ROUTE_PROTOCOL_PODWIRE }), []);
    assert.throws(() => links.deleteRoute({ destination: routed, metric: 50 }), isNotFound);
  });

  test(`IPv${family} rules`, { skip }, () => {
    const ns = make(`rule${family}`);
    using links = Rtnetlink.open(ns);
    const rule = { family, priority: 100, mark: 0x1000, markMask: 0xf000, table: 1000, inputDevice: 'lo' } as const;
    const before = links.rules(family).length;
    links.addRule(rule);
    assert.throws(() => links.addRule(rule), isExists);
    const found = links.rules(family).find((item) => item.priority === 100);
    assert.deepEqual(
      [found?.mark, found?.markMask, found?.table, found?.inputDevice, found?.action, found?.protocol],
      [0x1000, 0xf000, 1000, 'lo', 'table', ROUTE_PROTOCOL_PODWIRE],
    );
    assert.match(ip(ns, `-${family}`, 'rule'), /fwmark 0x1000\/0xf000 iif lo lookup 1000/);
    links.deleteRule(rule);
    assert.throws(() => links.deleteRule(rule), isNotFound);
    assert.equal(links.rules(family).length, before);
    links.addRule({ family, priority: 200, source: `${local}`, action: 'unreachable', suppressPrefixLength: 0 });
    assert.equal(links.rules(family).find((item) => item.priority === 200)?.action, 'unreachable');
  });

  test(`IPv${family} proxy neighbours`, { skip }, () => {
    using links = Rtnetlink.open(make(`proxy${family}`));
    links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
    links.replaceNeighbour({ device: 'v0', address: remote, proxy: true });
    assert.deepEqual(
      links.neighbours({ family, proxy: true }).map((item) => [item.address, item.proxy]),
      [[remote, true]],
    );
    assert.deepEqual(
      links.neighbours({ device: 'v0', family }).filter((item) => item.address === remote),
      [],
    );
    links.deleteNeighbour({ device: 'v0', address: remote, proxy: true });
    assert.deepEqual(links.neighbours({ family, proxy: true }), []);
  });
}

test('an IPv4 route through an IPv6 neighbour', { skip }, () => {
  using links = Rtnetlink.open(make('via6'));
  links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
  links.replaceRoute({ destination: '10.5.0.0/24', via: 'fe80::1', device: 'v0', onlink: true });
  assert.equal(links.routes({ family: 4, protocol: ROUTE_PROTOCOL_PODWIRE })[0]?.via, 'fe80::1');
});

test('a transaction sends many, reports the refused ones and forgives absent deletions', { skip }, () => {
  using links = Rtnetlink.open(make('batch'));
  links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
  links.addAddress({ device: 'v0', address: '192.0.2.1/24' });
  const specs = Array.from({ length: 10_000 }, (_, i) => ({
    destination: `10.${i >> 8}.${i & 255}.0/24`,
    via: '192.0.2.2',
    device: 'v0',
  }));
  const routes = specs.map((route): Operation => ({ op: 'replaceRoute', route }));
  const bad: Operation = { op: 'addRoute', route: { destination: '10.0.0.0/24', via: '203.0.113.1' } };
  const absent: Operation = { op: 'deleteRoute', route: { destination: '172.16.0.0/24' } };
  const noDevice: Operation = { op: 'addAddress', address: { device: 'none', address: '192.0.2.9/24' } };
  const failures = links.transaction([...routes.slice(0, 5000), bad, absent, noDevice, ...routes.slice(5000)]);
  assert.deepEqual(
    failures.map(({ operation }) => operation).sort((x, y) => x.op.localeCompare(y.op)),
    [noDevice, bad],
  );
  assert.ok(failures.every(({ error }) => error instanceof KernelError));
  assert.equal(links.routes({ family: 4, protocol: ROUTE_PROTOCOL_PODWIRE }).length, 10_000);
  const removal = specs.map((route): Operation => ({ op: 'deleteRoute', route }));
  assert.deepEqual(links.transaction(removal), []);
  assert.deepEqual(links.transaction([]), []);
  assert.deepEqual(links.routes({ family: 4, protocol: ROUTE_PROTOCOL_PODWIRE }), []);
  // All refused: every answer arrives.
  const hopeless = Array.from({ length: 5000 }, (): Operation => bad);
  assert.equal(links.transaction(hopeless).length, 5000);
});

test('the monitor reports changes of its namespace in order', { skip }, async () => {
  using links = Rtnetlink.open(make('monitor'));
  const seen: string[] = [];
  const done = Promise.withResolvers<void>();
  const monitor = links.monitor(
    { links: true, addresses: true, routes: true, neighbours: true, rules: true },
    (event) => {
      if (event.kind === 'link') seen.push(`${event.action} link ${event.link.name}`);
      if (event.kind === 'address') seen.push(`${event.action} address ${event.address.address}`);
      if (event.kind === 'route') seen.push(`${event.action} route ${event.route.destination}`);
      if (event.kind === 'neighbour') seen.push(`${event.action} neighbour ${event.neighbour.address}`);
      if (event.kind === 'rule') seen.push(`${event.action} rule ${event.rule.priority}`);
      if (event.kind === 'link' && event.action === 'deleted' && event.link.name === 'v0') done.resolve();
    },
    () => seen.push('resync'),
  );
  try {
    links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
    links.addAddress({ device: 'v0', address: '192.0.2.1/24' });
    links.replaceRoute({ destination: '10.9.0.0/24', via: '192.0.2.2' });
    links.replaceNeighbour({ device: 'v0', address: '192.0.2.2', mac: '02:00:00:00:00:02' });
    links.addRule({ family: 4, priority: 77, table: 77 });
    links.deleteLink('v0');
    await done.promise;
  } finally {
    monitor.close();
  }
  for (const expected of [
    'set link v0',
    'set address 192.0.2.1',
    'set route 10.9.0.0/24',
    'set neighbour 192.0.2.2',
    'set rule 77',
    'deleted link v0',
  ]) {
    assert.ok(seen.includes(expected), `${expected} in ${seen.join('; ')}`);
  }
  assert.ok(!seen.includes('resync'));
});

test('a monitor that falls behind is told to resync', { skip }, async () => {
  using links = Rtnetlink.open(make('overrun'));
  links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
  links.addAddress({ device: 'v0', address: '192.0.2.1/24' });
  const resynced = Promise.withResolvers<void>();
  const monitor = links.monitor(
    { routes: true },
    () => {},
    () => resynced.resolve(),
  );
  try {
    // Nothing is taken while this runs, and the kernel keeps 16 MiB at most.
    for (let round = 0; round < 3; round++) {
      const operations = Array.from(
        { length: 10_000 },
        (_, i): Operation => ({
          op: 'replaceRoute',
          route: { destination: `10.${i >> 8}.${i & 255}.0/24`, via: `192.0.2.${2 + round}`, device: 'v0' },
        }),
      );
      assert.deepEqual(links.transaction(operations), []);
    }
    await resynced.promise;
  } finally {
    monitor.close();
  }
});

test('a socket stays in its namespace when the handle is closed', { skip }, () => {
  const ns = make('kept');
  using links = Rtnetlink.open(ns);
  ns.close();
  assert.deepEqual(
    links.links().map((link) => link.name),
    ['lo'],
  );
});
