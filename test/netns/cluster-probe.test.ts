/** Whether a datagram arrives is told without help from who listens there. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { test } from 'node:test';
import { probeUdp } from '../../src/cluster/probe-udp.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { bindUdp } from '../../src/linux/sockets.ts';
import { skip } from './policy-lab.ts';

test('datagrams: open, closed, silent, unreachable; both families', { skip }, async (t) => {
  using from = NetworkNamespace.anonymous();
  using to = NetworkNamespace.anonymous();
  using rtnl = Rtnetlink.open(from);
  rtnl.createVeth({ name: 'eth0', up: true, peer: { name: 'eth0', up: true, netns: to } });
  using other = Rtnetlink.open(to);
  for (const [side, host] of [
    [rtnl, 1],
    [other, 2],
  ] as const) {
    side.addAddress({ device: 'eth0', address: `192.0.2.${host}/24` });
    side.addAddress({ device: 'eth0', address: `2001:db8::${host}/64`, nodad: true });
  }
  using nft = Nftables.open(to);
  nft.run(`table inet t { chain c { type filter hook input priority 0; udp dport 7 drop; }; }`);
  for (const [address, isV6] of [
    ['192.0.2.2', false],
    ['2001:db8::2', true],
  ] as const) {
    const ask = (port: number, timeoutMs: number, target: string = address) =>
      probeUdp({ from, to, address: target, port, timeoutMs });
    const server = createSocket(isV6 ? 'udp6' : 'udp4');
    t.after(() => server.close());
    let told = 0;
    server.on('message', () => told++);
    server.bind({ fd: bindUdp({ ns: to, address, port: 80 }) });
    assert.equal(await ask(80, 4000), 'open');
    assert.equal(await ask(81, 4000), 'closed');
    assert.equal(told > 0, true, 'who listens gets the datagram too');
    assert.equal(await ask(7, 200), 'timeout', 'dropped before it arrives');
    assert.equal(await ask(80, 200, isV6 ? '2001:db8::3' : '192.0.2.3'), 'timeout', 'nobody has the address');
    assert.equal(await ask(80, 200, isV6 ? '2001:db9::1' : '198.51.100.1'), 'unreachable');
  }
});
