/** Names of images as people write them -> the full reference (github.com/distribution/reference). Pure. */

export interface ImageName {
  /** "docker.io" … */
  readonly registry: string;
  /** "library/nginx" … */
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

const DOMAIN =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::\d+)?$/;
const PATH_PART = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/** Throws TypeError on what is no reference, in the words of the reference library. */
export function parseImageName(text: string): ImageName {
  const invalid = () => new TypeError(`couldn't parse image name ${JSON.stringify(text)}: invalid reference format`);
  const [beforeDigest, digest] = splitOnce(text, '@');
  if (digest !== undefined && !DIGEST.test(digest)) throw invalid();
  const colon = beforeDigest.lastIndexOf(':');
  const hasTag = colon > beforeDigest.lastIndexOf('/');
  const tag = hasTag ? beforeDigest.slice(colon + 1) : undefined;
  if (tag !== undefined && !TAG.test(tag)) throw invalid();
  const name = hasTag ? beforeDigest.slice(0, colon) : beforeDigest;
  const slash = name.indexOf('/');
  const first = name.slice(0, slash);
  const isDomain = slash > 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  const registry = isDomain ? first : 'docker.io';
  const path = isDomain ? name.slice(slash + 1) : name;
  if (!DOMAIN.test(registry) || !path.split('/').every((part) => PATH_PART.test(part))) throw invalid();
  const official = registry === 'docker.io' && !path.includes('/');
  return { registry, repository: official ? `library/${path}` : path, tag, digest };
}

function splitOnce(text: string, separator: string): readonly [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** The policy that the API server fills in when there is none: Always for a moving name. */
export function defaultPullPolicy(image: string): 'Always' | 'IfNotPresent' {
  const { tag, digest } = parseImageName(image);
  return digest === undefined && (tag === undefined || tag === 'latest') ? 'Always' : 'IfNotPresent';
}
