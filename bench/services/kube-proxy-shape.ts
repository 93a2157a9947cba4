/**
 * The ruleset shape of kube-proxy's nftables mode (pkg/proxy/nftables of Kubernetes 1.33 and later), written from its
 * description: a chain per Service port and per endpoint, a verdict map from ClusterIP to chain, an anonymous verdict map
 * in each Service's chain. It is the shape that is measured, not kube-proxy itself: no Go, no API server, no diffing.
 */
export interface ShapeService {
  readonly name: string;
  readonly clusterIp: string;
  readonly endpoints: readonly string[];
}

const TABLE = 'ip kube-proxy';
const POD_CIDR = '10.244.0.0/16';

const serviceChain = ({ name }: ShapeService): string => `service-${hash(name)}-default/${name}/tcp/http`;
const endpointChain = ({ name }: ShapeService, address: string): string =>
  `endpoint-${hash(name + address)}-default/${name}/tcp/http__${address}/8080`;

/** Eight characters as in kube-proxy's chain names. */
function hash(text: string): string {
  let value = 2166136261;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 16777619);
  return (value >>> 0).toString(36).toUpperCase().padStart(8, '0').slice(-8);
}

/** Everything, for a cold start. */
export function renderShape(services: readonly ShapeService[]): string {
  const lines = [base()];
  for (const service of services) {
    lines.push(`add chain ${TABLE} ${serviceChain(service)}`);
    for (const address of service.endpoints) lines.push(`add chain ${TABLE} ${endpointChain(service, address)}`);
  }
  for (const service of services)
    lines.push(...serviceRules(service), ...service.endpoints.flatMap((each) => endpointRules(service, each)));
  for (const service of services) {
    lines.push(`add element ${TABLE} cluster-ips { ${service.clusterIp} }`);
    lines.push(`add element ${TABLE} service-ips { ${service.clusterIp} . tcp . 80 : goto ${serviceChain(service)} }`);
  }
  return `${lines.join('\n')}\n`;
}

/** One Service's endpoints replaced: its chain rewritten, chains of endpoints made and deleted. */
export function renderShapeChange(before: ShapeService, after: ShapeService): string {
  const added = after.endpoints.filter((address) => !before.endpoints.includes(address));
  const removed = before.endpoints.filter((address) => !after.endpoints.includes(address));
  return `${[
    ...added.map((address) => `add chain ${TABLE} ${endpointChain(after, address)}`),
    ...added.flatMap((address) => endpointRules(after, address)),
    `flush chain ${TABLE} ${serviceChain(after)}`,
    ...serviceRules(after),
    ...removed.flatMap((address) => [
      `flush chain ${TABLE} ${endpointChain(before, address)}`,
      `delete chain ${TABLE} ${endpointChain(before, address)}`,
    ]),
  ].join('\n')}\n`;
}

function serviceRules(service: ShapeService): string[] {
  const chain = serviceChain(service);
  const goals = service.endpoints.map((address, i) => `${i} : goto ${endpointChain(service, address)}`);
  return [
    `add rule ${TABLE} ${chain} ip daddr ${service.clusterIp} tcp dport 80 ip saddr != ${POD_CIDR} jump mark-for-masquerade`,
    `add rule ${TABLE} ${chain} numgen random mod ${goals.length} vmap { ${goals.join(' , ')} }`,
  ];
}

function endpointRules(service: ShapeService, address: string): string[] {
  const chain = endpointChain(service, address);
  return [
    `add rule ${TABLE} ${chain} ip saddr ${address} jump mark-for-masquerade`,
    `add rule ${TABLE} ${chain} meta l4proto tcp dnat to ${address}:8080`,
  ];
}

function base(): string {
  return `add table ${TABLE}
delete table ${TABLE}
table ${TABLE} {
  set cluster-ips { type ipv4_addr; }
  set nodeport-ips { type ipv4_addr; elements = { 192.0.2.1 } ; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
  chain mark-for-masquerade { mark set mark or 0x4000; }
  chain masquerading {
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }
  chain reject-chain { reject; }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
  chain cluster-ips-check {
    ip daddr @cluster-ips reject
    ip daddr 10.96.0.0/12 drop
  }
  chain filter-prerouting-pre-dnat { type filter hook prerouting priority dstnat - 10; ct state new jump firewall-check; }
  chain filter-output-pre-dnat { type filter hook output priority -110; ct state new jump firewall-check; }
  chain filter-input { type filter hook input priority -110; ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }
  chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output { type filter hook output priority -90; ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}`;
}
