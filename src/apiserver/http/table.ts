/** The other forms of objects: rows of a Table (meta.k8s.io/v1) as kubectl prints them, and metadata alone. */
import type { StoredObject } from '../cache/stored-object.ts';
import type { Kind } from '../resources/kind.ts';

export type IncludeObject = 'None' | 'Metadata' | 'Object';

export interface TableOptions {
  readonly includeObject: IncludeObject;
  readonly now: number;
}

export function tableOf(
  kind: Kind,
  items: readonly StoredObject[],
  metadata: object,
  columns: 'with columns' | 'without columns',
  options: TableOptions,
): object {
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: columns === 'with columns' ? columnDefinitions(kind) : [],
    rows: items.map((stored) => ({
      cells: kind.row(stored.object as Parameters<Kind['row']>[0], options.now),
      ...rowObject(stored, options.includeObject),
    })),
  };
}

function rowObject(stored: StoredObject, include: IncludeObject): object {
  switch (include) {
    case 'None':
      return {};
    case 'Metadata':
      return { object: metadataOf(stored) };
    case 'Object':
      return { object: stored.object };
  }
}

function columnDefinitions(kind: Kind): object[] {
  return kind.columns.map((column) => ({
    name: column.name,
    type: column.type ?? 'string',
    format: column.format ?? '',
    description: column.description ?? '',
    priority: column.priority ?? 0,
  }));
}

export function metadataOf(stored: StoredObject): object {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: stored.object.metadata };
}
