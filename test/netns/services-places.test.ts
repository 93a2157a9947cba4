/** Where NodePorts are served follows the interfaces, and localhost among the places switches the kernel over. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNodePortChoices } from '../../src/base/node-port-choice.ts';
import { PROXY_MODES, servesLocalhost } from '../../src/cluster/proxy-mode.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { readSysctl } from '../../src/linux/sysctl.ts';
import { DEFAULT_NODE_PORT_CHOICES } from '../../src/node/services/node-addresses.ts';
import { NodePortPlaces } from '../../src/node/services/node-port-places.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();
const ROUTE_LOCALNET = 'net.ipv4.conf.all.route_localnet';

test('addresses that come and go', { skip }, async (t) => {
  const ns = make('places');
  using netlink = Rtnetlink.open(ns);
  const abort = new AbortController();
  t.after(() => abort.abort());
  const index = netlink.createVeth({ name: 'one', up: true, peer: { name: 'two' } });
  netlink.addAddress({ device: index, address: '198.51.100.7/24' });
  const places = new NodePortPlaces({
    chosen: parseNodePortChoices(['198.51.100.0/24', 'primary']),
    primary: ['192.0.2.1'],
    servesLocalhost: true,
    netlink,
    ns,
  });
  assert.deepEqual(places.addresses, ['192.0.2.1', '198.51.100.7']);
  let told: readonly string[] = [];
  places.start((addresses) => {
    told = addresses;
  }, abort.signal);
  const until = async (wanted: readonly string[]) => {
    for (let i = 0; i < 200 && told.join() !== wanted.join(); i++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(told, wanted);
  };
  netlink.addAddress({ device: index, address: '198.51.100.9/24' });
  await until(['192.0.2.1', '198.51.100.7', '198.51.100.9']);
  netlink.addAddress({ device: index, address: '203.0.113.9/24' });
  netlink.deleteAddress({ device: index, address: '198.51.100.9/24' });
  await until(['192.0.2.1', '198.51.100.7']);
  assert.equal(readSysctl(ns, ROUTE_LOCALNET), '0');
});

for (const mode of PROXY_MODES) {
  const serves = servesLocalhost(mode);
  test(`localhost in mode ${mode}: ${serves ? 'served' : 'left out, and the kernel left as it is'}`, { skip }, () => {
    const ns = make(`localhost-${mode}`);
    using netlink = Rtnetlink.open(ns);
    const places = new NodePortPlaces({
      chosen: DEFAULT_NODE_PORT_CHOICES,
      primary: ['192.0.2.1'],
      servesLocalhost: serves,
      netlink,
      ns,
    });
    assert.deepEqual(places.addresses, [...(serves ? ['127.0.0.1'] : []), '192.0.2.1']);
    assert.equal(readSysctl(ns, ROUTE_LOCALNET), '0');
    places.start(() => {}, new AbortController().signal);
    assert.equal(readSysctl(ns, ROUTE_LOCALNET), serves ? '1' : '0');
  });
}
