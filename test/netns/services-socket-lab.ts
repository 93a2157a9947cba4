/**
 * What the lab needs for Services at the socket: a control group in which this process is the node and its pods, while clients
 * outside are a process that stays where it was. The group goes with the lab; one that a killed test left behind goes with
 * the next test.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileServicePrograms } from '../../src/cluster/service-programs.ts';
import { cgroup2Root, enterCgroup, makeCgroup, removeCgroup } from '../../src/linux/cgroup.ts';
import type { ProgramFiles } from '../../src/node/services/ebpf/programs.ts';
import type { ServicesLab } from './services-lab.ts';
import { ProberProcess } from './services-prober.ts';

const PREFIX = 'podwire-test-';

/** Makes this process the lab's node. What is compiled and where it is to be attached. */
export async function enterSocketLab(lab: ServicesLab): Promise<ProgramFiles> {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-ebpf-'));
  lab.onClose(() => rmSync(folder, { recursive: true }));
  const object = join(folder, 'services.o');
  await compileServicePrograms(object);
  const outside = await ProberProcess.start(lab.space('outside'));
  lab.onClose(() => outside.stop());
  lab.delegate('outside', outside);
  return { object, cgroup: enterTestCgroup(lab) };
}

function enterTestCgroup(lab: ServicesLab): string {
  const root = cgroup2Root();
  if (!root) throw new Error('no control groups of version 2 are mounted');
  removeLeftBehind(root);
  const before = join(root, /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))![1]!);
  const cgroup = join(root, `${PREFIX}${process.pid}`);
  makeCgroup(cgroup);
  enterCgroup(cgroup, process.pid);
  lab.onClose(async () => {
    enterCgroup(before, process.pid);
    // Children that the test has ended may take a moment.
    for (let i = 0; i < 100 && !removeCgroup(cgroup); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  });
  return cgroup;
}

function removeLeftBehind(root: string): void {
  for (const name of readdirSync(root)) {
    if (name.startsWith(PREFIX) && !existsSync(`/proc/${name.slice(PREFIX.length)}`)) removeCgroup(join(root, name));
  }
}
