/**
 * An OCI image layout on disk (image-spec 1.1): blobs by digest and an index of named manifests. It is what the cluster's
 * registry serves and what containerd imports. Blobs are written under a temporary name and renamed; the index is replaced
 * by rename: a reader never sees half of either.
 */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { familiarName, formatReference, type ImageReference, parseReference } from './reference.ts';

export const MediaType = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
  platform?: { architecture: string; os: string };
}

interface Index {
  schemaVersion: 2;
  mediaType?: string;
  manifests: Descriptor[];
}

/** What a container runs by default; the fields of the image config's `config`. */
export interface ImageConfig {
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env?: readonly string[];
  readonly WorkingDir?: string;
  readonly User?: string;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
  readonly StopSignal?: string;
  readonly Labels?: Readonly<Record<string, string>>;
}

/** The annotation under which containerd's import and skopeo look for the image's name. */
const CONTAINERD_NAME = 'io.containerd.image.name';
const REF_NAME = 'org.opencontainers.image.ref.name';

export interface NamedImage {
  readonly reference: ImageReference;
  readonly name: string;
  readonly manifest: Descriptor;
}

export class OciLayout {
  readonly path: string;

  /** Opens the layout at a folder, making it where there is none. */
  constructor(path: string) {
    this.path = path;
    mkdirSync(join(path, 'blobs', 'sha256'), { recursive: true });
    if (!existsSync(join(path, 'oci-layout'))) {
      writeFileSync(join(path, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    }
  }

  blobPath(digest: string): string {
    if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw new TypeError(`not a digest: ${digest}`);
    return join(this.path, 'blobs', 'sha256', digest.slice('sha256:'.length));
  }

  hasBlob(digest: string): boolean {
    return /^sha256:[0-9a-f]{64}$/.test(digest) && existsSync(this.blobPath(digest));
  }

  addBlob(mediaType: string, bytes: Uint8Array): Descriptor {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const path = this.blobPath(digest);
    if (!existsSync(path)) {
      const temporary = `${path}.${randomUUID()}`;
      writeFileSync(temporary, bytes);
      renameSync(temporary, path);
    }
    return { mediaType, digest, size: bytes.length };
  }

  /** Adds a one-platform image of uncompressed layer archives and names it. */
  addImage(name: string, config: ImageConfig, layers: readonly Uint8Array[]): Descriptor {
    const descriptors = layers.map((layer) => this.addBlob(MediaType.layer, layer));
    const platform = { architecture: process.arch === 'arm64' ? 'arm64' : 'amd64', os: 'linux' };
    const configBlob = {
      ...platform,
      created: '1970-01-01T00:00:00Z',
      config,
      rootfs: { type: 'layers', diff_ids: descriptors.map((layer) => layer.digest) },
      history: descriptors.map(() => ({ created: '1970-01-01T00:00:00Z', created_by: 'podwire' })),
    };
    const manifest = {
      schemaVersion: 2,
      mediaType: MediaType.manifest,
      config: this.addBlob(MediaType.config, Buffer.from(JSON.stringify(configBlob))),
      layers: descriptors,
    };
    const descriptor = this.addBlob(MediaType.manifest, Buffer.from(JSON.stringify(manifest)));
    this.tag(name, { ...descriptor, platform });
    return descriptor;
  }

  /** Names a manifest; the name's earlier manifest loses it. */
  tag(name: string, descriptor: Descriptor): void {
    const reference = parseReference(name);
    const full = formatReference(reference);
    const annotations = { [CONTAINERD_NAME]: full, [REF_NAME]: reference.tag ?? reference.digest ?? '' };
    const others = this.#index().manifests.filter((one) => one.annotations?.[CONTAINERD_NAME] !== full);
    this.#writeIndex([...others, { ...descriptor, annotations: { ...descriptor.annotations, ...annotations } }]);
  }

  /** All named images, sorted by name. */
  list(): NamedImage[] {
    return this.#index()
      .manifests.flatMap((manifest): NamedImage[] => {
        const name = manifest.annotations?.[CONTAINERD_NAME];
        if (!name) return [];
        const reference = parseReference(name);
        return [{ reference, name: familiarName(reference), manifest }];
      })
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The manifest of a reference by digest or by tag. */
  resolve(reference: ImageReference): Descriptor | undefined {
    const same = this.list().filter((image) => image.reference.repository === reference.repository);
    if (reference.digest) {
      const named = same.find((image) => image.manifest.digest === reference.digest);
      if (named) return named.manifest;
      if (!this.hasBlob(reference.digest)) return undefined;
      const bytes = readFileSync(this.blobPath(reference.digest));
      const mediaType = (JSON.parse(bytes.toString()) as { mediaType?: string }).mediaType ?? MediaType.manifest;
      return { digest: reference.digest, size: bytes.length, mediaType };
    }
    return same.find(
      (image) => image.reference.tag === reference.tag && image.reference.registry === reference.registry,
    )?.manifest;
  }

  /** The bytes that an image's configuration and layers take on disk. */
  sizeOf(manifest: Descriptor): number {
    const content = JSON.parse(readFileSync(this.blobPath(manifest.digest), 'utf8')) as {
      config?: Descriptor;
      layers?: Descriptor[];
      manifests?: Descriptor[];
    };
    const nested = (content.manifests ?? []).filter((one) => this.hasBlob(one.digest));
    const parts = [...(content.layers ?? []), ...(content.config ? [content.config] : [])];
    return parts.reduce((sum, part) => sum + part.size, 0) + nested.reduce((sum, one) => sum + this.sizeOf(one), 0);
  }

  #index(): Index {
    try {
      return JSON.parse(readFileSync(join(this.path, 'index.json'), 'utf8')) as Index;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { schemaVersion: 2, manifests: [] };
      throw error;
    }
  }

  #writeIndex(manifests: Descriptor[]): void {
    const temporary = join(this.path, `index.json.${randomUUID()}`);
    const index: Index = { schemaVersion: 2, mediaType: MediaType.index, manifests };
    writeFileSync(temporary, JSON.stringify(index));
    renameSync(temporary, join(this.path, 'index.json'));
  }
}

/** Size in bytes of a blob on disk. */
export function blobSize(layout: OciLayout, digest: string): number {
  return statSync(layout.blobPath(digest)).size;
}
