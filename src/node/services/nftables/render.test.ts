/** One whole ruleset against a file. `UPDATE_GOLDEN=1 node --test …` writes it anew: read the difference. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { parseCidr } from '../../../base/ip.ts';
import type { Service } from '../../../kube/types.ts';
import { makePod, makeService, makeSlice, makeView } from '../fixtures.ts';
import { buildHostPorts } from '../host-ports.ts';
import { buildService, type Frontend } from '../model.ts';
import { renderRuleset } from './render.ts';

const GOLDEN = join(import.meta.dirname, 'testdata/ruleset.nft');
const view = makeView('n1', ['192.0.2.1', '2001:db8::1']);
const ADDRESSES = {
  podCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'].map(parseCidr),
  ownPodCidrs: ['10.244.0.0/24', 'fd00:10:244::/64'].map(parseCidr),
  serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'].map(parseCidr),
};

/** A Service of each kind, dual stack where that adds something. */
function frontends(): Frontend[] {
  const ports = [{ name: 'http', port: 8080 }];
  const slices = (name: string) => [
    makeSlice(
      name,
      [
        { address: '10.244.0.2', node: 'n1' },
        { address: '10.244.1.2', node: 'n2' },
      ],
      ports,
    ),
    makeSlice(name, [{ address: 'fd00:10:244::2', node: 'n1' }], ports),
  ];
  const service = (n: number, name: string, spec: Partial<Service['spec']>, ingress: object[] = []) => {
    const clusterIPs = [`10.96.0.${n}`, `fd00:10:96::${n}`];
    const port = { name: 'http', port: 80, ...(spec.type ? { nodePort: 30000 + n } : {}) };
    return buildService(makeService(name, { clusterIPs, ports: [port], ...spec }, ingress), slices(name), view)
      .frontends;
  };
  const pod = makePod(
    'web',
    { nodeName: 'n1', containers: [{ name: 'c', ports: [{ containerPort: 8080, hostPort: 9090 }] }] },
    ['10.244.0.2'],
  );
  return [
    ...service(1, 'plain', {}),
    ...buildService(
      makeService('empty', { clusterIPs: ['10.96.0.2'], ports: [{ port: 53, protocol: 'UDP' }] }),
      [],
      view,
    ).frontends,
    ...service(3, 'node-port', { type: 'NodePort' }),
    ...service(4, 'local', { type: 'NodePort', externalTrafficPolicy: 'Local' }),
    ...service(5, 'sticky', { type: 'NodePort', externalTrafficPolicy: 'Local', sessionAffinity: 'ClientIP' }),
    ...service(6, 'balanced', { type: 'LoadBalancer', loadBalancerSourceRanges: ['198.51.100.0/24'] }, [
      { ip: '203.0.113.6' },
    ]),
    ...buildHostPorts(pod, view).frontends,
  ];
}

it('renders the golden ruleset', () => {
  const text = renderRuleset(frontends(), [4, 6], ADDRESSES).replace();
  if (process.env['UPDATE_GOLDEN']) writeFileSync(GOLDEN, text);
  assert.equal(text, readFileSync(GOLDEN, 'utf8'));
});

it('renders equal bytes whatever the order', () => {
  const forwards = renderRuleset(frontends(), [4, 6], ADDRESSES).replace();
  assert.equal(renderRuleset(frontends().reverse(), [4, 6], ADDRESSES).replace(), forwards);
});
