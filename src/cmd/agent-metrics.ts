/** What /metrics of a node answers, in Prometheus' text format (version 0.0.4). */

import type { AnnounceController } from '../node/announce/controller.ts';
import type { DnsController } from '../node/dns/controller.ts';
import { Rcode } from '../node/dns/wire.ts';
import type { Ipam } from '../node/ipam/ipam.ts';
import type { PolicyController } from '../node/policy/controller.ts';
import type { ServicesController } from '../node/services/controller.ts';

export interface AgentParts {
  readonly services: ServicesController;
  readonly announce: AnnounceController;
  readonly dns: DnsController;
  readonly ipam: Ipam;
  readonly policy: PolicyController;
}

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export function renderAgentMetrics({ services, announce, dns, ipam, policy }: AgentParts): string {
  const { rss, heapUsed } = process.memoryUsage();
  const families = [
    family('podwire_agent_resident_bytes', 'gauge', 'Resident memory of the agent.', [[{}, rss]]),
    family('podwire_agent_heap_bytes', 'gauge', "JavaScript's heap in use.", [[{}, heapUsed]]),
    family('podwire_dns_queries_total', 'counter', 'Queries by transport.', [
      [{ transport: 'udp' }, dns.metrics.udp],
      [{ transport: 'tcp' }, dns.metrics.tcp],
    ]),
    family('podwire_dns_cache_hits_total', 'counter', 'Answers from the cache.', [[{}, dns.metrics.cacheHits]]),
    family(
      'podwire_dns_responses_total',
      'counter',
      'Responses by code.',
      Object.entries(Rcode).map(([name, code]): Sample => [{ rcode: name }, dns.metrics.byRcode[code] ?? 0]),
    ),
    family(
      'podwire_ipam_addresses_used',
      'gauge',
      'Addresses of pods in use.',
      ipam.usage().map(({ cidr, used }): Sample => [{ cidr }, used]),
    ),
    family(
      'podwire_ipam_addresses',
      'gauge',
      'Addresses that pods can have.',
      ipam.usage().map(({ cidr, capacity }): Sample => [{ cidr }, Number(capacity)]),
    ),
    ...deniedFamilies(policy),
    ...Object.entries(flatten(services.metrics)).map(([name, value]) =>
      family(`podwire_services_${name}`, 'gauge', 'See docs/services.md.', [[{}, value]]),
    ),
    ...Object.entries(announce.metrics).map(([name, value]) =>
      family(`podwire_announce_${name}`, 'gauge', 'See docs/services.md.', [[{}, value]]),
    ),
  ];
  return families.join('');
}

export function deniedFamilies(policy: Pick<PolicyController, 'deniedPackets' | 'deniedByPolicy'>): string[] {
  const denied = policy.deniedPackets();
  const byPolicy = policy.deniedByPolicy();
  const total = 'Packets that policies denied, since the table was loaded.';
  const each =
    'The same for each policy that denied them; a packet that several policies deny counts for each of them.';
  return [
    ...(denied
      ? [
          family('podwire_policy_denied_packets_total', 'counter', total, [
            [{ direction: 'ingress' }, denied.ingress],
            [{ direction: 'egress' }, denied.egress],
          ]),
        ]
      : []),
    ...(byPolicy
      ? [
          family(
            'podwire_policy_denied_packets_by_policy_total',
            'counter',
            each,
            byPolicy.map(({ direction, policy: name, packets }): Sample => [{ direction, policy: name }, packets]),
          ),
        ]
      : []),
  ];
}

/** Nested numbers as snake_case names. */
function flatten(value: object, prefix = ''): Record<string, number> {
  const result: Record<string, number> = {};
  for (const [key, inner] of Object.entries(value)) {
    const name = `${prefix}${key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    if (typeof inner === 'number') result[name] = inner;
    else if (typeof inner === 'object' && inner !== null) Object.assign(result, flatten(inner, `${name}_`));
  }
  return result;
}

function family(name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]): string {
  const lines = samples.map(([labels, value]) => {
    const text = Object.entries(labels)
      .map(([key, label]) => `${key}=${JSON.stringify(label)}`)
      .join(',');
    return `${name}${text ? `{${text}}` : ''} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}
