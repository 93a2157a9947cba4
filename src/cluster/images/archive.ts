/**
 * Loads image archives into a layout: OCI archives (a tar of an OCI layout) and docker archives (`docker save`, a tar with
 * manifest.json). Layers may be compressed; they are kept as they are.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { checkedCommand } from '../../base/command.ts';
import { codeOf, messageOf, UserError } from '../../base/errors.ts';
import { type Descriptor, MediaType, type OciLayout } from './layout.ts';
import { formatReference, parseReference } from './reference.ts';

interface DockerImage {
  readonly Config: string;
  readonly RepoTags?: readonly string[] | null;
  readonly Layers: readonly string[];
}

interface Manifest {
  readonly manifests?: readonly Descriptor[];
  readonly config?: Descriptor;
  readonly layers?: readonly Descriptor[];
}

/** An image that was found whole: its blobs, and the names that it is to have. */
interface FoundImage {
  readonly blobs: readonly Blob[];
  readonly manifest: Descriptor;
  readonly names: readonly string[];
}

interface Blob {
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** Returns the full names of the images. Everything is read and checked first: a damaged archive leaves nothing behind. */
export async function loadArchive(file: string, layout: OciLayout, as?: string): Promise<string[]> {
  const folder = mkdtempSync(join(layout.path, 'loading-'));
  try {
    await unpack(file, folder);
    const images = findImages(folder, as);
    if (images.every((image) => image.names.length === 0))
      throw new UserError(`${file} has no image name in it`, { hint: 'give one with --as NAME' });
    for (const { blobs } of images) for (const { mediaType, bytes } of blobs) layout.addBlob(mediaType, bytes);
    for (const { names, manifest } of images) for (const name of names) layout.tag(name, manifest);
    return images.flatMap((image) => image.names);
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

function findImages(folder: string, as: string | undefined): FoundImage[] {
  const has = (name: string) => existsSync(join(folder, name));
  if (has('index.json')) return ociImages(folder, as);
  if (has('manifest.json')) return dockerImages(folder, as);
  throw new UserError('the archive holds neither index.json (OCI) nor manifest.json (docker save)');
}

function ociImages(folder: string, as: string | undefined): FoundImage[] {
  const index = readJson(folder, 'index.json') as Manifest;
  return listIn(index, 'manifests', 'index.json').map((manifest) => {
    const name = as ?? manifest.annotations?.['io.containerd.image.name'] ?? fullRefName(manifest);
    return { blobs: collect(folder, manifest), manifest, names: name ? [fullName(name)] : [] };
  });
}

/** skopeo writes the whole name or the tag alone into this annotation; a tag alone names nothing. */
function fullRefName(manifest: Descriptor): string | undefined {
  const name = manifest.annotations?.['org.opencontainers.image.ref.name'];
  return name && /[/:]/.test(name) ? name : undefined;
}

/** A manifest or index and all it refers to; platforms that the archive does not hold are left out. */
function collect(folder: string, descriptor: Descriptor): Blob[] {
  const own = readBlob(folder, descriptor);
  const content = parseJson(own.bytes.toString(), descriptor.digest) as Manifest;
  const nested = listIn(content, 'manifests', descriptor.digest).filter((one) =>
    existsSync(join(folder, blobPath(one))),
  );
  const parts = [...listIn(content, 'layers', descriptor.digest), ...(content.config ? [content.config] : [])];
  return [...nested.flatMap((one) => collect(folder, one)), ...parts.map((part) => readBlob(folder, part)), own];
}

/** The descriptors under a field, none when it is absent. */
function listIn(content: Manifest, field: 'manifests' | 'layers', where: string): readonly Descriptor[] {
  const list: unknown = content[field] ?? [];
  const isDescriptor = (one: unknown) => typeof (one as Descriptor | null)?.digest === 'string';
  if (!Array.isArray(list) || !list.every(isDescriptor)) throw damaged(`${field} of ${where} are no descriptors`);
  return list as Descriptor[];
}

function blobPath({ digest }: Descriptor): string {
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw damaged(`${JSON.stringify(digest)} is no SHA-256 digest`);
  return join('blobs', 'sha256', digest.slice('sha256:'.length));
}

function readBlob(folder: string, descriptor: Descriptor): Blob {
  const bytes = readInside(folder, blobPath(descriptor));
  if (digestOf(bytes) !== descriptor.digest) throw damaged(`${descriptor.digest} has other content`);
  return { mediaType: descriptor.mediaType, bytes };
}

function dockerImages(folder: string, as: string | undefined): FoundImage[] {
  const listed = readJson(folder, 'manifest.json');
  if (!Array.isArray(listed) || !listed.every(isDockerImage)) throw damaged('manifest.json lists no images');
  return listed.map((image) => {
    const config = { mediaType: MediaType.config, bytes: readInside(folder, image.Config) };
    const layers = image.Layers.map((path) => layerBlob(readInside(folder, path)));
    checkLayers(config.bytes, image, layers);
    const content = {
      schemaVersion: 2,
      mediaType: MediaType.manifest,
      config: describeBlob(config),
      layers: layers.map(describeBlob),
    };
    const manifest = { mediaType: MediaType.manifest, bytes: Buffer.from(JSON.stringify(content)) };
    const names = as ? [as] : (image.RepoTags ?? []);
    return { blobs: [...layers, config, manifest], manifest: describeBlob(manifest), names: names.map(fullName) };
  });
}

function isDockerImage(one: unknown): one is DockerImage {
  const image = one as DockerImage | null;
  return typeof image?.Config === 'string' && Array.isArray(image.Layers) && Array.isArray(image.RepoTags ?? []);
}

/** The configuration tells the digests of the layers, unpacked; only docker save's own form is checked, which is that. */
function checkLayers(config: Buffer, image: DockerImage, layers: readonly Blob[]): void {
  const { rootfs } = parseJson(config.toString(), image.Config) as { rootfs?: { diff_ids?: readonly string[] } };
  const stated = rootfs?.diff_ids ?? [];
  if (stated.length !== layers.length) throw damaged(`${image.Config} is not the configuration of its layers`);
  for (const [i, { mediaType, bytes }] of layers.entries()) {
    if (mediaType === MediaType.layer && digestOf(bytes) !== stated[i])
      throw damaged(`${image.Layers[i]} has other content`);
  }
}

function layerBlob(bytes: Buffer): Blob {
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  return { mediaType: isGzip ? `${MediaType.layer}+gzip` : MediaType.layer, bytes };
}

function describeBlob({ mediaType, bytes }: Blob): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function fullName(name: string): string {
  try {
    return formatReference(parseReference(name));
  } catch (error) {
    throw new UserError(`the image cannot be named: ${messageOf(error)}`, { cause: error });
  }
}

function readJson(folder: string, path: string): unknown {
  return parseJson(readInside(folder, path).toString(), path);
}

/** An object or list; any other JSON is damage too. */
function parseJson(text: string, what: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Said below.
  }
  throw damaged(`${what} is not the JSON that it should be`);
}

/** Reads a file that the archive names, never one outside its folder, also not through a symbolic link. */
function readInside(folder: string, path: string): Buffer {
  const root = realpathSync(folder);
  try {
    const whole = realpathSync(join(root, path));
    if (whole.startsWith(`${root}/`)) return readFileSync(whole);
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    throw damaged(`${path} is missing`, error);
  }
  throw new UserError(`the archive names a file outside itself: ${path}`);
}

function damaged(what: string, cause?: unknown): UserError {
  return new UserError(`the archive is damaged: ${what}`, { cause });
}
