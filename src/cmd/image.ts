/** `podwire image`: loads, fetches and lists what the cluster's registry serves. */
import { existsSync } from 'node:fs';
import { checkedCommand } from '../base/command.ts';
import { messageOf, UserError } from '../base/errors.ts';
import { Cluster } from '../cluster/cluster.ts';
import { loadArchive } from '../cluster/images/archive.ts';
import { OciLayout } from '../cluster/images/layout.ts';
import { familiarName, formatReference, parseReference } from '../cluster/images/reference.ts';
import { findProgram } from '../cluster/requirements.ts';
import { prepare } from '../cluster/setup.ts';
import { Progress, printJson, renderTable } from './terminal.ts';

interface Named {
  readonly name: string;
}

export async function loadImage(file: string, options: Named & { as?: string }): Promise<void> {
  const cluster = Cluster.open(options.name);
  if (!existsSync(file)) throw new UserError(`there is no file ${file}`, { exitCode: 2 });
  const progress = new Progress();
  progress.step(`loading ${file}`);
  try {
    const names = await loadArchive(file, new OciLayout(cluster.paths.images), options.as);
    progress.say(`loaded ${names.join(', ')}`);
  } catch (error) {
    progress.fail();
    throw error;
  }
}

export async function pullImage(image: string, { name }: Named): Promise<void> {
  const cluster = Cluster.open(name);
  const reference = parseImage(image);
  const skopeo = findProgram('skopeo');
  if (!skopeo) throw new UserError('skopeo is not on the PATH', { hint: 'run: apt-get install skopeo', exitCode: 3 });
  const full = formatReference(reference);
  // As Docker does: a registry on this machine may speak plain HTTP.
  const plain = /^(localhost|127\.|\[::1\])/.test(reference.registry) ? ['--src-tls-verify=false'] : [];
  const archive = `${cluster.paths.run}/pull-${process.pid}.tar`;
  const progress = new Progress();
  progress.step(`fetching ${full}`);
  try {
    await checkedCommand([
      skopeo,
      'copy',
      '--insecure-policy',
      '--quiet',
      ...plain,
      `docker://${full}`,
      `oci-archive:${archive}`,
    ]);
    await loadArchive(archive, new OciLayout(cluster.paths.images), full);
    progress.done();
  } catch (error) {
    progress.fail();
    throw new UserError(`cannot fetch ${full}: ${messageOf(error)}`, { cause: error });
  } finally {
    await checkedCommand(['rm', '-f', archive]);
  }
}

export async function listImages({ name, output }: Named & { output: string }): Promise<void> {
  const cluster = Cluster.open(name);
  const { images } = await prepare();
  const rows = [new OciLayout(cluster.paths.images), new OciLayout(images)].flatMap((layout, i) =>
    layout.list().map((image) => ({
      image: familiarName(image.reference),
      digest: image.manifest.digest,
      sizeBytes: layout.sizeOf(image.manifest),
      source: i === 0 ? 'loaded' : 'starter',
    })),
  );
  if (output === 'json') return printJson(rows);
  const cells = rows.map((row) => [
    row.image,
    row.digest.slice(7, 19),
    `${(row.sizeBytes / 1e6).toFixed(1)} MB`,
    row.source,
  ]);
  process.stdout.write(`${renderTable(['IMAGE', 'DIGEST', 'SIZE', 'SOURCE'], cells)}\n`);
}

function parseImage(image: string) {
  try {
    return parseReference(image);
  } catch (error) {
    throw new UserError(messageOf(error), { exitCode: 2 });
  }
}
