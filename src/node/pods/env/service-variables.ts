/** The environment variables that tell a container of the Services that exist at its start. Pure. */
import { hostPort } from '../../../base/ip.ts';
import type { Service } from '../../../kube/types.ts';

/** The one Service of another namespace that every container is told of. */
const MASTER_SERVICE = { namespace: 'default', name: 'kubernetes' } as const;

/** "my-svc" -> "MY_SVC". */
function variableName(name: string): string {
  return name.replaceAll('-', '_').toUpperCase();
}

/** The Services whose variables a pod of the namespace gets, by name, in name order. */
export function visibleServices(
  services: Iterable<Service>,
  namespace: string,
  enableServiceLinks: boolean,
): readonly Service[] {
  const byName = new Map<string, Service>();
  for (const service of services) {
    const { clusterIP, ports } = service.spec;
    if (!clusterIP || clusterIP === 'None' || !ports?.length) continue;
    const { name, namespace: home } = service.metadata;
    const isMaster = home === MASTER_SERVICE.namespace && name === MASTER_SERVICE.name;
    if (home === namespace && (enableServiceLinks || isMaster)) byName.set(name, service);
    else if (isMaster && !byName.has(name)) byName.set(name, service);
  }
  return [...byName.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** Kubernetes' own form (X_SERVICE_HOST …) and the form of Docker links (X_PORT_80_TCP …). */
export function serviceVariables(services: readonly Service[]): Map<string, string> {
  const variables = new Map<string, string>();
  for (const service of services) {
    const prefix = variableName(service.metadata.name);
    const host = service.spec.clusterIP!;
    const ports = service.spec.ports!;
    variables.set(`${prefix}_SERVICE_HOST`, host);
    variables.set(`${prefix}_SERVICE_PORT`, String(ports[0]!.port));
    for (const { name, port } of ports)
      if (name) variables.set(`${prefix}_SERVICE_PORT_${variableName(name)}`, String(port));
    ports.forEach(({ port, protocol = 'TCP' }, index) => {
      const url = `${protocol.toLowerCase()}://${hostPort(host, port)}`;
      const link = `${prefix}_PORT_${port}_${protocol.toUpperCase()}`;
      if (index === 0) variables.set(`${prefix}_PORT`, url);
      variables.set(link, url);
      variables.set(`${link}_PROTO`, protocol.toLowerCase());
      variables.set(`${link}_PORT`, String(port));
      variables.set(`${link}_ADDR`, host);
    });
  }
  return variables;
}
