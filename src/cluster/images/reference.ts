/** Image names as Docker and containerd normalise them: "nginx" is "docker.io/library/nginx:latest". */

export interface ImageReference {
  /** "docker.io", "localhost:5000" … */
  readonly registry: string;
  /** "library/nginx" */
  readonly repository: string;
  /** The tag, "latest" when neither tag nor digest was given. */
  readonly tag?: string;
  /** "sha256:…" */
  readonly digest?: string;
}

const REPOSITORY = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const REGISTRY = /^(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::\d+)?$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** Throws TypeError on what is no image name. */
export function parseReference(text: string): ImageReference {
  const [nameAndTag, digest, extra] = text.split('@') as [string, string | undefined, string | undefined];
  const slash = nameAndTag.lastIndexOf('/');
  const colon = nameAndTag.indexOf(':', slash + 1);
  const name = colon < 0 ? nameAndTag : nameAndTag.slice(0, colon);
  const tag = colon < 0 ? undefined : nameAndTag.slice(colon + 1);
  const [first, ...rest] = name.split('/') as [string, ...string[]];
  const named = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost');
  const registry = named ? first : 'docker.io';
  const path = named ? rest.join('/') : name;
  const repository = registry === 'docker.io' && !path.includes('/') ? `library/${path}` : path;
  const wrong =
    extra !== undefined ||
    !REGISTRY.test(registry) ||
    !REPOSITORY.test(repository) ||
    (tag !== undefined && !TAG.test(tag)) ||
    (digest !== undefined && !DIGEST.test(digest));
  if (wrong) throw new TypeError(`not an image name: ${JSON.stringify(text)}`);
  if (digest) return { registry, repository, digest, ...(tag ? { tag } : {}) };
  return { registry, repository, tag: tag ?? 'latest' };
}

/** "docker.io/library/nginx:latest" */
export function formatReference({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}${tag ? `:${tag}` : ''}${digest ? `@${digest}` : ''}`;
}

/** The short form that people type: "nginx:latest", "curlimages/curl:latest", "ghcr.io/a/b:1". */
export function familiarName(reference: ImageReference): string {
  return formatReference(reference).replace(/^docker\.io\/(library\/)?/, '');
}
