/** A Service of each kind, dual stack where that adds something: what the golden files of the modes are rendered from. */
import type { Service } from '../../kube/types.ts';
import { makePod, makeService, makeSlice } from './fixtures.ts';
import { buildHostPorts } from './host-ports.ts';
import { buildService, type Frontend, type NodeView } from './model.ts';

const PORTS = [{ name: 'http', port: 8080 }];

const slicesOf = (name: string) => [
  makeSlice(
    name,
    [
      { address: '10.244.0.2', node: 'n1' },
      { address: '10.244.1.2', node: 'n2' },
    ],
    PORTS,
  ),
  makeSlice(name, [{ address: 'fd00:10:244::2', node: 'n1' }], PORTS),
];

/** For a node "n1"; the ClusterIPs are 10.96.0.1 … and fd00:10:96::1 …, one has no endpoint, one is outside of these ranges. */
export function everyKindOfFrontend(view: NodeView): Frontend[] {
  const service = (n: number, name: string, spec: Partial<Service['spec']>, ingress: object[] = []) => {
    const clusterIPs = [`10.96.0.${n}`, `fd00:10:96::${n}`];
    const port = { name: 'http', port: 80, ...(spec.type ? { nodePort: 30000 + n } : {}) };
    const object = makeService(name, { clusterIPs, ports: [port], ...spec }, ingress);
    return buildService(object, slicesOf(name), view).frontends;
  };
  const empty = makeService('empty', { clusterIPs: ['10.96.0.2'], ports: [{ port: 53, protocol: 'UDP' }] });
  const ports = [{ containerPort: 8080, hostPort: 9090 }];
  const pod = makePod('web', { nodeName: 'n1', containers: [{ name: 'c', ports }] }, ['10.244.0.2']);
  return [
    ...service(1, 'plain', {}),
    ...buildService(empty, [], view).frontends,
    ...service(3, 'node-port', { type: 'NodePort' }),
    ...service(4, 'local', { type: 'NodePort', externalTrafficPolicy: 'Local' }),
    ...service(5, 'sticky', { type: 'NodePort', externalTrafficPolicy: 'Local', sessionAffinity: 'ClientIP' }),
    ...service(6, 'balanced', { type: 'LoadBalancer', loadBalancerSourceRanges: ['198.51.100.0/24'] }, [
      { ip: '203.0.113.6' },
    ]),
    ...service(7, 'near', { type: 'NodePort', internalTrafficPolicy: 'Local', externalIPs: ['203.0.113.7'] }),
    ...service(8, 'elsewhere', { clusterIPs: ['10.97.0.8'] }),
    ...buildHostPorts(pod, view).frontends,
  ];
}
