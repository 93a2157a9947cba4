/**
 * There are no custom resources, and the list of their definitions says so: it is empty. kubectl 1.32 asks for it when a
 * manifest names a kind that OpenAPI does not have, before it says `no matches for kind` (1.20 does not ask); without an answer
 * people would read `failed to check CRD: failed to list CRDs` instead. The list is not in discovery, since nothing can be put
 * into it.
 */
import type { ResourcePath } from './paths.ts';

const GROUP = 'apiextensions.k8s.io';
const VERSION = 'v1';

/** Whether a request lists all definitions. */
export function listsDefinitions({ group, version, plural, name }: ResourcePath, verb: string): boolean {
  return (
    verb === 'list' &&
    group === GROUP &&
    version === VERSION &&
    plural === 'customresourcedefinitions' &&
    name === undefined
  );
}

export function noDefinitions(revision: number): object {
  return {
    kind: 'CustomResourceDefinitionList',
    apiVersion: `${GROUP}/${VERSION}`,
    metadata: { resourceVersion: String(revision) },
    items: [],
  };
}
