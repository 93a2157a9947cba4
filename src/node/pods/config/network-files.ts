/** Hostname, /etc/hosts and the resolver of a pod. Pure. */
import type { Pod } from '../../../kube/types.ts';
import type { DnsConfig } from '../cri/types.ts';

/** HOST_NAME_MAX of Linux less one, as Kubernetes cuts names. */
const MAX_HOSTNAME = 63;
/** Of the resolver: resolv.conf(5) of glibc before 2.26, and Kubernetes' own limits. */
const MAX_NAMESERVERS = 3;
const MAX_SEARCHES = 32;
const MAX_SEARCH_CHARACTERS = 2048;

/** spec.hostname or the pod's name, cut as a host name may be. */
export function podHostname(pod: Pod): string {
  const name = pod.spec.hostname || pod.metadata.name;
  return name.slice(0, MAX_HOSTNAME).replace(/[-.]+$/, '');
}

/** host.subdomain.namespace.svc.domain, or undefined without a subdomain. */
export function podDomainName(pod: Pod, clusterDomain: string): string | undefined {
  const { subdomain } = pod.spec;
  return subdomain ? `${podHostname(pod)}.${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}` : undefined;
}

/** What the kernel shall call the pod's machine. */
export function kernelHostname(pod: Pod, clusterDomain: string): string {
  const name = (pod.spec.setHostnameAsFQDN && podDomainName(pod, clusterDomain)) || podHostname(pod);
  return name;
}

/** The pod's /etc/hosts. For hostNetwork pods pass the node's own file: it is kept, and the aliases are added. */
export function renderHostsFile(
  pod: Pod,
  podIPs: readonly string[],
  clusterDomain: string,
  nodeHostsFile?: string,
): string {
  const aliases = (pod.spec.hostAliases ?? []).filter((alias) => alias.ip && alias.hostnames?.length);
  const lines: string[] = [];
  if (nodeHostsFile === undefined) {
    lines.push(
      '# Kubernetes-managed hosts file.',
      '127.0.0.1\tlocalhost',
      '::1\tlocalhost ip6-localhost ip6-loopback',
      'fe00::0\tip6-localnet',
      'fe00::0\tip6-mcastprefix',
      'fe00::1\tip6-allnodes',
      'fe00::2\tip6-allrouters',
    );
    const names = [podDomainName(pod, clusterDomain), podHostname(pod)].filter(Boolean).join('\t');
    for (const ip of podIPs) lines.push(`${ip}\t${names}`);
  } else {
    lines.push('# Kubernetes-managed hosts file (host network).', nodeHostsFile.trimEnd());
  }
  if (aliases.length) {
    lines.push('', '# Entries added by HostAliases.');
    for (const { ip, hostnames } of aliases) lines.push([ip, ...(hostnames ?? [])].join('\t'));
  }
  return `${lines.join('\n')}\n`;
}

/** The parts of a resolv.conf(5) that the CRI can carry. */
export function parseResolvConf(text: string): DnsConfig {
  const servers: string[] = [];
  let searches: string[] = [];
  let options: string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    if (keyword === 'nameserver' && values[0]) servers.push(values[0]);
    else if (keyword === 'search' || keyword === 'domain') searches = values;
    else if (keyword === 'options') options = values;
  }
  return { servers, searches, options };
}

export interface ResolverInput {
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  /** The node's own resolver, for policy Default. */
  readonly node: DnsConfig;
}

export interface Resolver {
  readonly config: DnsConfig;
  /** What could not be done as asked: for events. */
  readonly warnings: readonly string[];
}

/** The resolver by dnsPolicy and dnsConfig. */
export function podResolver(pod: Pod, { clusterDns, clusterDomain, node }: ResolverInput): Resolver {
  const warnings: string[] = [];
  let policy = pod.spec.dnsPolicy ?? 'ClusterFirst';
  if (policy === 'ClusterFirstWithHostNet') policy = 'ClusterFirst';
  else if (policy === 'ClusterFirst' && pod.spec.hostNetwork) policy = 'Default';
  if (policy === 'ClusterFirst' && clusterDns.length === 0) {
    warnings.push(
      'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.',
    );
    policy = 'Default';
  }
  let base: DnsConfig = { servers: [], searches: [], options: [] };
  if (policy === 'Default') base = node;
  else if (policy === 'ClusterFirst') base = clusterResolver(pod.metadata.namespace, clusterDns, clusterDomain, node);
  return { config: limited(merged(base, pod), warnings), warnings };
}

function clusterResolver(namespace: string, servers: readonly string[], domain: string, node: DnsConfig): DnsConfig {
  const cluster = [`${namespace}.svc.${domain}`, `svc.${domain}`, domain];
  return {
    servers,
    searches: [...cluster, ...node.searches.filter((name) => !cluster.includes(name) && name !== '.')],
    options: ['ndots:5'],
  };
}

/** dnsConfig is appended; an option of the same name is replaced. */
function merged(base: DnsConfig, pod: Pod): DnsConfig {
  const { nameservers = [], searches = [], options = [] } = pod.spec.dnsConfig ?? {};
  const byName = new Map(base.options.map((option) => [option.split(':')[0]!, option]));
  for (const { name, value } of options) if (name) byName.set(name, value === undefined ? name : `${name}:${value}`);
  return {
    servers: [...new Set([...base.servers, ...nameservers])],
    searches: [...new Set([...base.searches, ...searches])],
    options: [...byName.values()],
  };
}

function limited(config: DnsConfig, warnings: string[]): DnsConfig {
  const servers = config.servers.slice(0, MAX_NAMESERVERS);
  if (servers.length < config.servers.length)
    warnings.push(
      `Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ${servers.join(' ')}`,
    );
  const searches = config.searches.slice(0, MAX_SEARCHES);
  while (searches.join(' ').length > MAX_SEARCH_CHARACTERS) searches.pop();
  if (searches.length < config.searches.length)
    warnings.push(
      `Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ${searches.join(' ')}`,
    );
  return { servers, searches, options: config.options };
}
