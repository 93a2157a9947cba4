/** Which form of an answer a client wants, by its Accept header. */
import { statusError } from '../../kube/status.ts';

/** As it is stored; as rows for people; or only its metadata. */
export type Form = 'object' | 'table' | 'metadata';

interface Accepted {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** The alternatives of an Accept header, best first. */
export function parseAccept(header: string | undefined): Accepted[] {
  const alternatives = (header || '*/*').split(',').map((part, order) => {
    const [type = '', ...rest] = part.split(';').map((piece) => piece.trim());
    const parameters = new Map(
      rest.map((piece): [string, string] => {
        const [key = '', value = ''] = piece.split('=');
        return [key.toLowerCase(), value];
      }),
    );
    return { type: type.toLowerCase(), parameters, quality: Number(parameters.get('q') ?? 1), order };
  });
  return alternatives.sort((a, b) => b.quality - a.quality || a.order - b.order);
}

const isJson = (type: string) => type === 'application/json' || type === '*/*' || type === 'application/*';

/** Throws NotAcceptable when the client takes nothing that this server speaks (JSON). */
export function formOf(header: string | undefined): Form {
  for (const { type, parameters } of parseAccept(header)) {
    const as = parameters.get('as');
    if (!isJson(type)) continue;
    if (as === undefined) return 'object';
    if (parameters.get('g') !== 'meta.k8s.io' || parameters.get('v') !== 'v1') continue;
    if (as === 'Table') return 'table';
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') return 'metadata';
  }
  throw statusError('NotAcceptable', 'only the following media types are accepted: application/json');
}
