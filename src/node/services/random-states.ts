/** Random clusters for property tests: few addresses and names, so that collisions of every kind happen often. */
import fc from 'fast-check';
import type { EndpointSlice, Service } from '../../kube/types.ts';
import { type EndpointSpec, makeService, makeSlice } from './fixtures.ts';

export interface RandomState {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
}

export interface Vocabulary {
  /** Pods: addresses of both families and the node they are on. */
  readonly pods: readonly { readonly addresses: readonly string[]; readonly node: string }[];
  readonly serverPorts: readonly number[];
  readonly externalIps: readonly string[];
  readonly balancerIps: readonly string[];
  readonly sourceRanges: readonly string[];
  /** Addresses in slices that must never be used. */
  readonly garbage: readonly string[];
}

export const SERVICE_NAMES = ['one', 'two', 'three', 'four'] as const;
const PORT_NAMES = ['http', 'dns'] as const;

const protocolOf = (name: string): 'TCP' | 'UDP' => (name === 'dns' ? 'UDP' : 'TCP');

/** A Service by its place in SERVICE_NAMES: its ClusterIPs and NodePorts are its own, external addresses are not. */
function anyService(index: number, words: Vocabulary): fc.Arbitrary<Service> {
  const addresses = [`10.96.0.${10 + index}`, `fd00:10:96::${10 + index}`];
  return fc
    .record({
      type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer', 'LoadBalancer'),
      families: fc.constantFrom(addresses, addresses, [addresses[0]!], [addresses[1]!]),
      headless: fc.nat(12).map((n) => n === 0),
      ports: fc.subarray([...PORT_NAMES], { minLength: 1 }),
      port: fc.constantFrom(80, 80, 80, 81),
      internalTrafficPolicy: fc.constantFrom(undefined, 'Cluster', 'Local'),
      externalTrafficPolicy: fc.constantFrom(undefined, 'Cluster', 'Local'),
      affinity: fc.option(fc.constantFrom(100, 10800), { nil: undefined, freq: 3 }),
      externalIPs: fc.subarray([...words.externalIps]),
      ingress: fc.subarray([...words.balancerIps]),
      ipMode: fc.constantFrom(undefined, 'VIP', 'Proxy'),
      ranges: fc.subarray([...words.sourceRanges]),
      isOpen: fc.boolean(),
      age: fc.nat(3),
    })
    .map((random) => {
      const service = makeService(
        SERVICE_NAMES[index]!,
        {
          type: random.type,
          ...(random.headless
            ? { clusterIP: 'None' }
            : { clusterIP: random.families[0]!, clusterIPs: random.families }),
          ports: random.ports.map((name) => ({
            name,
            protocol: protocolOf(name),
            port: random.port,
            ...(random.type === 'ClusterIP' ? {} : { nodePort: 30000 + 2 * index + (name === 'dns' ? 1 : 0) }),
          })),
          ...(random.internalTrafficPolicy ? { internalTrafficPolicy: random.internalTrafficPolicy } : {}),
          ...(random.externalTrafficPolicy ? { externalTrafficPolicy: random.externalTrafficPolicy } : {}),
          ...(random.affinity
            ? {
                sessionAffinity: 'ClientIP',
                sessionAffinityConfig: { clientIP: { timeoutSeconds: random.affinity } },
              }
            : {}),
          externalIPs: random.externalIPs,
          loadBalancerSourceRanges: random.isOpen ? [] : random.ranges,
        },
        random.ingress.map((ip) => ({ ip, ...(random.ipMode ? { ipMode: random.ipMode } : {}) })),
      );
      service.metadata.creationTimestamp = `2026-01-01T00:00:0${random.age}Z`;
      return service;
    });
}

function anyEndpoint(family: 0 | 1, words: Vocabulary): fc.Arbitrary<EndpointSpec> {
  const good = fc.constantFrom(...words.pods).map(({ addresses, node }) => ({ address: addresses[family]!, node }));
  const bad = fc.constantFrom(...words.garbage).map((address) => ({ address, node: 'n1' }));
  const conditions = fc.constantFrom(
    {},
    {},
    {},
    { ready: true },
    { ready: false },
    { ready: false, serving: true, terminating: true },
    { ready: false, serving: false, terminating: true },
  );
  const hints = fc.constantFrom({}, {}, { zones: ['z1'] }, { zones: ['z2'] }, { zones: ['z1'], nodes: ['n1'] });
  const where = fc.oneof({ weight: 8, arbitrary: good }, { weight: 1, arbitrary: bad });
  return fc.tuple(where, conditions, hints).map(([place, state, hint]) => ({ ...place, ...state, ...hint }));
}

function anySlices(index: number, words: Vocabulary): fc.Arbitrary<readonly EndpointSlice[]> {
  const name = SERVICE_NAMES[index]!;
  const slice = (family: 0 | 1, suffix: string) =>
    fc
      .record({
        endpoints: fc.array(anyEndpoint(family, words), { maxLength: 4 }),
        ports: fc.subarray([...PORT_NAMES]),
        port: fc.constantFrom(...words.serverPorts),
      })
      .map(({ endpoints, ports, port }) =>
        makeSlice(
          name,
          endpoints,
          ports.map((each) => ({ name: each, port, protocol: protocolOf(each) })),
          { suffix, addressType: family === 0 ? 'IPv4' : 'IPv6' },
        ),
      );
  const twice = fc.nat(3).map((n) => n === 0);
  return fc
    .tuple(slice(0, 'v4'), slice(1, 'v6'), slice(0, 'v4b'), twice)
    .map(([v4, v6, more, both]) => (both ? [v4, v6, more] : [v4, v6]));
}

/** One Service with its slices, by its place in SERVICE_NAMES. */
export function anyServiceState(
  index: number,
  words: Vocabulary,
): fc.Arbitrary<{ readonly service: Service; readonly slices: readonly EndpointSlice[] }> {
  return fc.record({ service: anyService(index, words), slices: anySlices(index, words) });
}

/** Some of the Services. */
export function anyState(words: Vocabulary): fc.Arbitrary<RandomState> {
  const each = SERVICE_NAMES.map((_, index) => fc.option(anyServiceState(index, words), { nil: undefined, freq: 4 }));
  return fc.tuple(...each).map((states) => ({
    services: states.flatMap((state) => (state ? [state.service] : [])),
    slices: states.flatMap((state) => state?.slices ?? []),
  }));
}
