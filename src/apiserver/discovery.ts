/** /api, /apis and below: which groups, versions and resources there are, in the old form and the aggregated one. */
import { apiVersionOf } from '../kube/names.ts';
import { parseAccept } from './http/negotiation.ts';
import type { Kind, Subresource } from './resources/kind.ts';

/** Resources that are created but never stored: reviews. */
export interface VirtualResource {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
}

const OBJECT_VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'] as const;

export class Discovery {
  readonly #kinds: readonly Kind[];
  readonly #virtual: readonly VirtualResource[];

  constructor(kinds: readonly Kind[], virtual: readonly VirtualResource[]) {
    this.#kinds = kinds;
    this.#virtual = virtual;
  }

  /** Groups in the order in which kubectl should find kinds: the core group first. */
  #groups(): Map<string, Set<string>> {
    const groups = new Map<string, Set<string>>([['', new Set(['v1'])]]);
    for (const { group, version } of [...this.#kinds, ...this.#virtual]) {
      const versions = groups.get(group) ?? new Set();
      groups.set(group, versions.add(version));
    }
    return groups;
  }

  /** The answer for a path; undefined when it is none of discovery's. */
  answer(path: string, accept: string | undefined): { body: object; contentType?: string } | undefined {
    const parts = path.split('/').filter((part) => part !== '');
    if (parts[0] === 'api' && parts.length === 1) {
      return aggregated(accept, (version) => this.#aggregated(version, 'core')) ?? { body: coreVersions };
    }
    if (parts[0] === 'api' && parts[1] === 'v1' && parts.length === 2) return { body: this.#resources('', 'v1') };
    if (parts[0] !== 'apis') return undefined;
    const groups = this.#groups();
    if (parts.length === 1) {
      return (
        aggregated(accept, (version) => this.#aggregated(version, 'named')) ?? {
          body: {
            kind: 'APIGroupList',
            apiVersion: 'v1',
            groups: [...groups].filter(([group]) => group !== '').map(([group, versions]) => apiGroup(group, versions)),
          },
        }
      );
    }
    const [, group = '', version = ''] = parts;
    const versions = group === '' ? undefined : groups.get(group);
    if (!versions) return undefined;
    if (parts.length === 2) return { body: { kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(group, versions) } };
    return parts.length === 3 && versions.has(version) ? { body: this.#resources(group, version) } : undefined;
  }

  #in(group: string, version: string): Kind[] {
    return this.#kinds.filter((kind) => kind.group === group && kind.version === version);
  }

  #virtualIn(group: string, version: string): VirtualResource[] {
    return this.#virtual.filter((resource) => resource.group === group && resource.version === version);
  }

  #resources(group: string, version: string): object {
    const resources = this.#in(group, version).flatMap((kind) => [
      {
        name: kind.plural,
        singularName: kind.singular,
        namespaced: kind.namespaced,
        kind: kind.kind,
        verbs: OBJECT_VERBS,
        ...(kind.shortNames ? { shortNames: kind.shortNames } : {}),
        ...(kind.categories ? { categories: kind.categories } : {}),
      },
      ...subresourcesOf(kind).map((sub) => ({
        name: `${kind.plural}/${sub.name}`,
        singularName: '',
        namespaced: kind.namespaced,
        ...(sub.version ? { group: sub.group, version: sub.version } : {}),
        kind: sub.kind,
        verbs: sub.verbs,
      })),
    ]);
    const virtual = this.#virtualIn(group, version).map((resource) => ({
      name: resource.plural,
      singularName: resource.kind.toLowerCase(),
      namespaced: false,
      kind: resource.kind,
      verbs: ['create'],
    }));
    return {
      kind: 'APIResourceList',
      apiVersion: 'v1',
      groupVersion: apiVersionOf({ group, version }),
      resources: [...resources, ...virtual],
    };
  }

  #aggregated(apiVersion: string, which: 'core' | 'named'): object {
    const groups = [...this.#groups()].filter(([group]) => (group === '') === (which === 'core'));
    return {
      kind: 'APIGroupDiscoveryList',
      apiVersion: `apidiscovery.k8s.io/${apiVersion}`,
      metadata: {},
      items: groups.map(([group, versions]) => ({
        metadata: { ...(group ? { name: group } : {}), creationTimestamp: null },
        versions: [...versions].map((version) => ({
          version,
          resources: [
            ...this.#in(group, version).map(aggregatedKind),
            ...this.#virtualIn(group, version).map((resource) => ({
              resource: resource.plural,
              responseKind: { group: resource.group, version: resource.version, kind: resource.kind },
              scope: 'Cluster',
              singularResource: resource.kind.toLowerCase(),
              verbs: ['create'],
            })),
          ],
          freshness: 'Current',
        })),
      })),
    };
  }
}

function aggregated(accept: string | undefined, body: (version: string) => object) {
  for (const { type, parameters } of parseAccept(accept)) {
    if (type !== 'application/json') continue;
    const version = parameters.get('v') ?? '';
    if (parameters.get('as') === undefined) return undefined;
    if (parameters.get('g') !== 'apidiscovery.k8s.io' || parameters.get('as') !== 'APIGroupDiscoveryList') continue;
    if (version !== 'v2' && version !== 'v2beta1') continue;
    const contentType = `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`;
    return { body: body(version), contentType };
  }
  return undefined;
}

const coreVersions = { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };

function apiGroup(name: string, versions: ReadonlySet<string>): object {
  const all = [...versions].map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: all, preferredVersion: all[0] };
}

/** A kind's subresources: status and scale by its rules, then its own. */
export function subresourcesOf(kind: Kind): readonly Subresource[] {
  const verbs = ['get', 'patch', 'update'];
  return [
    ...(kind.status ? [{ name: 'status', kind: kind.kind, verbs }] : []),
    ...(kind.scale ? [{ name: 'scale', kind: 'Scale', group: 'autoscaling', version: 'v1', verbs }] : []),
    ...(kind.extraSubresources ?? []),
  ];
}

function aggregatedKind(kind: Kind): object {
  const { group, version } = kind;
  return {
    resource: kind.plural,
    responseKind: { group, version, kind: kind.kind },
    scope: kind.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: kind.singular,
    verbs: OBJECT_VERBS,
    ...(kind.shortNames ? { shortNames: kind.shortNames } : {}),
    ...(kind.categories ? { categories: kind.categories } : {}),
    subresources: subresourcesOf(kind).map((sub) => ({
      subresource: sub.name,
      responseKind: { group: sub.group ?? group, version: sub.version ?? version, kind: sub.kind },
      verbs: sub.verbs,
    })),
  };
}
