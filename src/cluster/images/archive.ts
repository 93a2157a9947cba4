/**
 * Loads image archives into a layout: OCI archives (a tar of an OCI layout) and docker archives (`docker save`, a tar with
 * manifest.json). Layers may be compressed; they are kept as they are.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { checkedCommand } from '../../base/command.ts';
import { codeOf, UserError } from '../../base/errors.ts';
import { type Descriptor, MediaType, OciLayout } from './layout.ts';
import { formatReference, parseReference } from './reference.ts';

interface DockerManifest {
  readonly Config: string;
  readonly RepoTags: readonly string[] | null;
  readonly Layers: readonly string[];
}

interface Manifest {
  readonly manifests?: readonly Descriptor[];
  readonly config?: Descriptor;
  readonly layers?: readonly Descriptor[];
}

/** Returns the full names of the images. Nothing is named unless everything it refers to is in the layout. */
export async function loadArchive(file: string, layout: OciLayout, as?: string): Promise<string[]> {
  const folder = mkdtempSync(join(layout.path, 'loading-'));
  try {
    await unpack(file, folder);
    const names =
      tryRead(join(folder, 'index.json')) !== undefined ? loadOci(folder, layout, as) : loadDocker(folder, layout, as);
    if (names.length === 0) throw new UserError(`${file} has no image name in it`, { hint: 'give one with --as NAME' });
    return names;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function unpack(file: string, folder: string): Promise<void> {
  try {
    await checkedCommand(['tar', '-C', folder, '--no-same-owner', '-xf', file]);
  } catch (error) {
    throw new UserError(`${file} is not an image archive: tar cannot read it`, { cause: error });
  }
}

function loadOci(folder: string, layout: OciLayout, as: string | undefined): string[] {
  const source = new OciLayout(folder);
  const index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as Manifest;
  const names: string[] = [];
  for (const manifest of index.manifests ?? []) {
    const name = as ?? manifest.annotations?.['io.containerd.image.name'] ?? fullRefName(manifest);
    copyManifest(source, layout, manifest);
    if (!name) continue;
    const full = formatReference(parseReference(name));
    layout.tag(full, manifest);
    names.push(full);
  }
  return names;
}

/** skopeo writes the whole name or the tag alone into this annotation; a tag alone names nothing. */
function fullRefName(manifest: Descriptor): string | undefined {
  const name = manifest.annotations?.['org.opencontainers.image.ref.name'];
  return name && /[/:]/.test(name) ? name : undefined;
}

/** Copies a manifest or index and all it refers to; platforms that the archive does not hold are left out. */
function copyManifest(source: OciLayout, target: OciLayout, descriptor: Descriptor): void {
  const bytes = readFileSync(source.blobPath(descriptor.digest));
  const content = JSON.parse(bytes.toString()) as Manifest;
  for (const nested of content.manifests ?? []) if (source.hasBlob(nested.digest)) copyManifest(source, target, nested);
  for (const part of [...(content.layers ?? []), ...(content.config ? [content.config] : [])]) {
    checkDigest(target.addBlob(part.mediaType, readFileSync(source.blobPath(part.digest))), part);
  }
  checkDigest(target.addBlob(descriptor.mediaType, bytes), descriptor);
}

function checkDigest(actual: Descriptor, stated: Descriptor): void {
  if (actual.digest !== stated.digest)
    throw new UserError(`the archive is damaged: ${stated.digest} has other content`);
}

function loadDocker(folder: string, layout: OciLayout, as: string | undefined): string[] {
  const listed = tryRead(join(folder, 'manifest.json'));
  if (listed === undefined)
    throw new UserError('the archive holds neither index.json (OCI) nor manifest.json (docker save)');
  return (JSON.parse(listed) as DockerManifest[]).flatMap((image) => {
    const config = readInside(folder, image.Config);
    const layers = image.Layers.map((path) =>
      layout.addBlob(mediaTypeOfLayer(readInside(folder, path)), readInside(folder, path)),
    );
    const manifest = {
      schemaVersion: 2,
      mediaType: MediaType.manifest,
      config: layout.addBlob(MediaType.config, config),
      layers,
    };
    const descriptor = layout.addBlob(MediaType.manifest, Buffer.from(JSON.stringify(manifest)));
    const names = (as ? [as] : (image.RepoTags ?? [])).map((name) => formatReference(parseReference(name)));
    for (const name of names) layout.tag(name, descriptor);
    return names;
  });
}

function mediaTypeOfLayer(bytes: Buffer): string {
  return bytes[0] === 0x1f && bytes[1] === 0x8b ? `${MediaType.layer}+gzip` : MediaType.layer;
}

/** Reads a file that the archive names, never one outside its folder. */
function readInside(folder: string, path: string): Buffer {
  const whole = join(folder, path);
  if (!whole.startsWith(`${folder}/`)) throw new UserError(`the archive names a file outside itself: ${path}`);
  return readFileSync(whole);
}

function tryRead(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
