/** Invalid Services, EndpointSlices and Endpoints: each is refused with Kubernetes' field path and message, and nothing is kept. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Body, SERVICES, TestServer } from './fixtures/api-server.ts';

const NAMESPACED = '/namespaces/default';
const SLICES = `/apis/discovery.k8s.io/v1${NAMESPACED}/endpointslices`;
const ENDPOINTS = `/api/v1${NAMESPACED}/endpoints`;

let server: TestServer;
before(async () => {
  server = await TestServer.start();
  await server.created(SERVICES, { metadata: { name: 'taken' }, spec: taken });
});
after(() => server[Symbol.asyncDispose]());

const taken = { type: 'NodePort', clusterIP: '10.96.77.7', ports: [{ port: 80, nodePort: 30_777 }] };
const http = { name: 'http', port: 80 };

/** What is wrong with a Service with one port 80, unless it says otherwise; the field that is named; words of the message. */
const SERVICE_FAULTS: readonly (readonly [what: string, spec: Body, field: string, words: string])[] = [
  ['no ports', { ports: [] }, 'spec.ports', 'Required value'],
  ['port 0', { ports: [{ port: 0, targetPort: 80 }] }, 'spec.ports[0].port', 'must be between 1 and 65535, inclusive'],
  [
    'port 65536',
    { ports: [{ port: 65_536, targetPort: 80 }] },
    'spec.ports[0].port',
    'must be between 1 and 65535, inclusive',
  ],
  ['two ports without names', { ports: [http, { port: 81 }] }, 'spec.ports[1].name', 'Required value'],
  ['two ports of one name', { ports: [http, { ...http, port: 81 }] }, 'spec.ports[1].name', 'Duplicate value: "http"'],
  ['a port twice', { ports: [http, { ...http, name: 'b' }] }, 'spec.ports[1]', 'Duplicate value'],
  ['a port name in capitals', { ports: [{ name: 'HTTP', port: 80 }] }, 'spec.ports[0].name', 'RFC 1123 label'],
  [
    'an unknown protocol',
    { ports: [{ port: 80, protocol: 'ICMP' }] },
    'spec.ports[0].protocol',
    'supported values: "SCTP", "TCP", "UDP"',
  ],
  [
    'a target port of 70000',
    { ports: [{ port: 80, targetPort: 70_000 }] },
    'spec.ports[0].targetPort',
    'must be between 1 and 65535, inclusive',
  ],
  [
    'a target port name that is too long',
    { ports: [{ port: 80, targetPort: 'sixteen-letters-x' }] },
    'spec.ports[0].targetPort',
    'must be no more than 15 characters',
  ],
  [
    'an application protocol with blanks',
    { ports: [{ port: 80, appProtocol: 'not one' }] },
    'spec.ports[0].appProtocol',
    'name part must consist of',
  ],
  [
    'a node port of a ClusterIP Service',
    { ports: [{ port: 80, nodePort: 30_080 }] },
    'spec.ports[0].nodePort',
    "may not be used when `type` is 'ClusterIP'",
  ],
  [
    'a node port out of the range',
    { type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] },
    'spec.ports[0].nodePort',
    'The range of valid ports is 30000-32767',
  ],
  [
    'a node port that is taken',
    { type: 'NodePort', ports: [{ port: 80, nodePort: 30_777 }] },
    'spec.ports[0].nodePort',
    'provided port is already allocated',
  ],
  [
    'a node port twice',
    {
      type: 'NodePort',
      ports: [
        { ...http, nodePort: 30_081 },
        { name: 'b', port: 81, nodePort: 30_081 },
      ],
    },
    'spec.ports[1].nodePort',
    'Duplicate value: 30081',
  ],
  [
    'the kubelet’s port for all',
    { type: 'LoadBalancer', ports: [{ port: 10_250 }] },
    'spec.ports[0].port',
    'may not expose port 10250 externally since it is used by kubelet',
  ],
  [
    'an unknown type',
    { type: 'Anycast' },
    'spec.type',
    'supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
  ],
  ['no address', { clusterIP: 'ten' }, 'spec.clusterIPs[0]', 'must be a valid IP address'],
  ['an address out of the range', { clusterIP: '10.97.0.1' }, 'spec.clusterIPs', 'is not in the valid range'],
  ['an address that is taken', { clusterIP: '10.96.77.7' }, 'spec.clusterIPs', 'provided IP is already allocated'],
  [
    'clusterIP beside other clusterIPs',
    { clusterIP: '10.96.9.1', clusterIPs: ['10.96.9.2'] },
    'spec.clusterIPs',
    'first value must match `clusterIP`',
  ],
  [
    'two addresses of one family',
    { ipFamilyPolicy: 'RequireDualStack', clusterIPs: ['10.96.9.1', '10.96.9.2'] },
    'spec.clusterIPs',
    'may specify no more than one IP for each IP family',
  ],
  [
    'an address of the wrong family',
    { ipFamilies: ['IPv6'], clusterIP: '10.96.9.1' },
    'spec.clusterIPs[0]',
    'expected an IPv6 value as indicated by `ipFamilies[0]`',
  ],
  ['an unknown family', { ipFamilies: ['IPv5'] }, 'spec.ipFamilies[0]', 'Unsupported value: "IPv5"'],
  [
    'a family twice',
    { ipFamilyPolicy: 'RequireDualStack', ipFamilies: ['IPv4', 'IPv4'] },
    'spec.ipFamilies[1]',
    'Duplicate value: "IPv4"',
  ],
  [
    'two families under SingleStack',
    { ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv4', 'IPv6'] },
    'spec.ipFamilyPolicy',
    "must be 'RequireDualStack' or 'PreferDualStack'",
  ],
  [
    'a headless Service with node ports',
    { type: 'NodePort', clusterIP: 'None' },
    'spec.clusterIPs[0]',
    "may not be set to 'None' for NodePort services",
  ],
  [
    'None beside an address',
    { clusterIPs: ['None', '10.96.9.1'] },
    'spec.clusterIPs',
    "'None' must be the first and only value",
  ],
  ['an ExternalName without a name', { type: 'ExternalName' }, 'spec.externalName', 'Required value'],
  [
    'an ExternalName that is no name',
    { type: 'ExternalName', externalName: '-x' },
    'spec.externalName',
    'RFC 1123 subdomain',
  ],
  [
    'an ExternalName with an address',
    { type: 'ExternalName', externalName: 'e.com', clusterIP: '10.96.9.1' },
    'spec.clusterIPs[0]',
    'may not be set for ExternalName services',
  ],
  [
    'an external address that is none',
    { externalIPs: ['example'] },
    'spec.externalIPs[0]',
    'must be a valid IP address',
  ],
  ['an unspecified external address', { externalIPs: ['0.0.0.0'] }, 'spec.externalIPs[0]', 'may not be unspecified'],
  [
    'a loopback external address',
    { externalIPs: ['192.0.2.1', '127.0.0.1'] },
    'spec.externalIPs[1]',
    'may not be in the loopback range',
  ],
  [
    'a link-local external address',
    { externalIPs: ['fe80::1'] },
    'spec.externalIPs[0]',
    'may not be in the link-local range',
  ],
  [
    'a multicast external address',
    { externalIPs: ['224.0.0.9'] },
    'spec.externalIPs[0]',
    'may not be in the link-local multicast range',
  ],
  ['a selector that is no label', { selector: { app: 'not a label' } }, 'spec.selector', 'a valid label must be'],
  [
    'an unknown affinity',
    { sessionAffinity: 'Cookie' },
    'spec.sessionAffinity',
    'supported values: "ClientIP", "None"',
  ],
  [
    'an affinity of no time',
    { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } },
    'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
    'must be greater than 0 and less than 86400',
  ],
  [
    'an unknown internal policy',
    { internalTrafficPolicy: 'Here' },
    'spec.internalTrafficPolicy',
    'supported values: "Cluster", "Local"',
  ],
  [
    'an external policy without anything external',
    { externalTrafficPolicy: 'Local' },
    'spec.externalTrafficPolicy',
    'may only be set for externally-accessible services',
  ],
  [
    'an unknown distribution',
    { trafficDistribution: 'Far' },
    'spec.trafficDistribution',
    'supported values: "PreferClose", "PreferSameNode", "PreferSameZone"',
  ],
  [
    'a health check port of a NodePort Service',
    { type: 'NodePort', healthCheckNodePort: 30_090 },
    'spec.healthCheckNodePort',
    "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
  ],
  [
    'a health check port of policy Cluster',
    { type: 'LoadBalancer', healthCheckNodePort: 30_090 },
    'spec.healthCheckNodePort',
    "may only be set when `type` is 'LoadBalancer'",
  ],
  [
    'source ranges of a NodePort Service',
    { type: 'NodePort', loadBalancerSourceRanges: ['10.0.0.0/8'] },
    'spec.loadBalancerSourceRanges',
    "may only be used when `type` is 'LoadBalancer'",
  ],
  [
    'a source range that is none',
    { type: 'LoadBalancer', loadBalancerSourceRanges: ['10.0.0.0/33'] },
    'spec.loadBalancerSourceRanges[0]',
    'must be a valid CIDR value',
  ],
  [
    'a class of a ClusterIP Service',
    { loadBalancerClass: 'podwire.io/lb' },
    'spec.loadBalancerClass',
    "may only be used when `type` is 'LoadBalancer'",
  ],
];

/** That the reply is a Status 422 that names exactly one field, with the words. */
function assertRefused(
  reply: { readonly code: number; readonly text: string; readonly body: Body },
  field: string,
  words: string,
) {
  assert.equal(reply.code, 422, reply.text);
  const { kind, reason, details, message } = reply.body;
  assert.deepEqual([kind, reason], ['Status', 'Invalid']);
  const fields = (details.causes as { field: string }[]).map((cause) => cause.field);
  assert.deepEqual(fields, [field], message);
  assert.ok((message as string).includes(words), message);
}

describe('a Service is refused with', () => {
  for (const [what, spec, field, words] of SERVICE_FAULTS) {
    it(what, async () => {
      const body = { metadata: { name: 'refused' }, spec: { ports: [{ port: 80 }], ...spec } };
      assertRefused(await server.call('POST', SERVICES, { body }), field, words);
      assert.equal((await server.call('GET', `${SERVICES}/refused`)).code, 404);
    });
  }

  it('a name that begins with a digit', async () => {
    const reply = await server.call('POST', SERVICES, { body: { metadata: { name: '1st' }, spec: { ports: [http] } } });
    assertRefused(reply, 'metadata.name', 'a DNS-1035 label must consist of');
  });

  const patch = (name: string, spec: Body) => server.patch(`${SERVICES}/${name}`, 'merge', { spec });
  it('another address than it has', async () => {
    const reply = await patch('taken', { clusterIP: '10.96.77.8', clusterIPs: ['10.96.77.8'] });
    assertRefused(reply, 'spec.clusterIPs[0]', 'field is immutable');
  });
  it('another family than it has', async () => {
    const reply = await patch('taken', { ipFamilies: ['IPv6'] });
    assert.equal(reply.code, 422, reply.text);
    assert.match(reply.body.message, /spec\.(ipFamilies|clusterIPs)\[0\]: Invalid value/);
  });
  it('another health check port than it has', async () => {
    const spec = { type: 'LoadBalancer', externalTrafficPolicy: 'Local', ports: [{ port: 80 }] };
    const made = await server.created(SERVICES, { metadata: { name: 'checked' }, spec });
    const other = made.spec.healthCheckNodePort === 30_100 ? 30_101 : 30_100;
    assertRefused(
      await patch('checked', { healthCheckNodePort: other }),
      'spec.healthCheckNodePort',
      'field is immutable',
    );
  });
});

const ready = { addresses: ['10.244.0.9'] };
const SLICE_FAULTS: readonly (readonly [what: string, slice: Body, field: string, words: string])[] = [
  ['an unknown family', { addressType: 'IPv5' }, 'addressType', 'supported values: "FQDN", "IPv4", "IPv6"'],
  [
    'an endpoint without addresses',
    { endpoints: [{ addresses: [] }] },
    'endpoints[0].addresses',
    'must contain at least 1 address',
  ],
  [
    'an address of the other family',
    { endpoints: [{ addresses: ['fd00::9'] }] },
    'endpoints[0].addresses[0]',
    'must be a valid IPv4 address',
  ],
  [
    'an address that is none',
    { endpoints: [ready, { addresses: ['10.244.0'] }] },
    'endpoints[1].addresses[0]',
    'must be a valid IPv4 address',
  ],
  [
    'a loopback address',
    { endpoints: [{ addresses: ['127.0.0.1'] }] },
    'endpoints[0].addresses[0]',
    'may not be in the loopback range',
  ],
  [
    'a link-local address',
    { endpoints: [{ addresses: ['169.254.169.254'] }] },
    'endpoints[0].addresses[0]',
    'may not be in the link-local range',
  ],
  [
    'a multicast address',
    { endpoints: [{ addresses: ['224.0.0.1'] }] },
    'endpoints[0].addresses[0]',
    'may not be in the link-local multicast range',
  ],
  [
    'more than 1000 endpoints',
    { endpoints: Array.from({ length: 1001 }, () => ready) },
    'endpoints',
    'must have at most 1000 items',
  ],
  [
    'a node that is no name',
    { endpoints: [{ ...ready, nodeName: 'Node 1' }] },
    'endpoints[0].nodeName',
    'RFC 1123 subdomain',
  ],
  ['a host name with dots', { endpoints: [{ ...ready, hostname: 'a.b' }] }, 'endpoints[0].hostname', 'RFC 1123 label'],
  [
    'a hint twice',
    { endpoints: [{ ...ready, hints: { forZones: [{ name: 'z' }, { name: 'z' }] } }] },
    'endpoints[0].hints.forZones[1].name',
    'Duplicate value: "z"',
  ],
  ['a port of 0', { ports: [{ port: 0 }] }, 'ports[0].port', 'must be between 1 and 65535, inclusive'],
  [
    'two ports of one name',
    {
      ports: [
        { name: 'a', port: 1 },
        { name: 'a', port: 2 },
      ],
    },
    'ports[1].name',
    'Duplicate value: "a"',
  ],
];

describe('an EndpointSlice is refused with', () => {
  for (const [what, slice, field, words] of SLICE_FAULTS) {
    it(what, async () => {
      const body = { metadata: { name: 'refused' }, addressType: 'IPv4', endpoints: [ready], ports: [http], ...slice };
      assertRefused(await server.call('POST', SLICES, { body }), field, words);
    });
  }
});

it('Endpoints are refused with addresses that lead nowhere', async () => {
  const subsets = [{ addresses: [{ ip: '127.0.0.1' }], ports: [{ port: 80 }] }];
  const reply = await server.call('POST', ENDPOINTS, { body: { metadata: { name: 'refused' }, subsets } });
  assertRefused(reply, 'subsets[0].addresses[0].ip', 'may not be in the loopback range');
});
