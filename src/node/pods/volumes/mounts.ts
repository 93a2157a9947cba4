/**
 * Mounts that containers shall see must be made where containerd lives: in its own mount namespace, which does not see
 * mounts that are made on the host later. A small interface, so that tests need no root.
 */
import { readFile } from 'node:fs/promises';
import { checkedCommand } from '../../../base/command.ts';

export interface VolumeMounts {
  /** Makes a tmpfs at an existing folder; nothing happens when one is mounted there. */
  tmpfs(
    target: string,
    options: { readonly sizeBytes?: number; readonly mode: number; readonly gid?: number },
  ): Promise<void>;
  /** Detaches whatever is mounted at the path; nothing mounted is success. */
  unmount(target: string): Promise<void>;
}

/** Mounts in the mount namespace of a process, through nsenter(1) and mount(8): rare work, off the packet path. */
export class ProcessMounts implements VolumeMounts {
  readonly #pid: () => number | undefined | Promise<number | undefined>;

  /** `pid` tells containerd's (or one of its shims') present process; undefined while there is none. */
  constructor(pid: () => number | undefined | Promise<number | undefined>) {
    this.#pid = pid;
  }

  async #process(): Promise<number> {
    const pid = await this.#pid();
    if (pid === undefined) throw new Error('containerd does not run: nothing can be mounted for containers now');
    return pid;
  }

  async #run(...argv: readonly string[]): Promise<void> {
    const namespace = `--mount=/proc/${await this.#process()}/ns/mnt`;
    await checkedCommand(['nsenter', namespace, '--', ...argv], { timeoutMs: 10_000 });
  }

  async tmpfs(target: string, options: { sizeBytes?: number; mode: number; gid?: number }): Promise<void> {
    if (await this.#isMounted(target)) return;
    const parts = [`mode=${options.mode.toString(8)}`];
    if (options.sizeBytes) parts.push(`size=${options.sizeBytes}`);
    if (options.gid !== undefined) parts.push(`gid=${options.gid}`);
    await this.#run('mount', '-t', 'tmpfs', '-o', parts.join(','), 'tmpfs', target);
  }

  async unmount(target: string): Promise<void> {
    if (!(await this.#isMounted(target))) return;
    await this.#run('umount', '--lazy', target);
  }

  async #isMounted(target: string): Promise<boolean> {
    const table = await readFile(`/proc/${await this.#process()}/mountinfo`, 'utf8');
    return mountPoints(table).includes(target);
  }
}

/** The mount points of a mountinfo table (proc(5)): the fifth field, with octal escapes. */
export function mountPoints(table: string): readonly string[] {
  const decode = (text: string) =>
    text.replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 8)));
  return table.split('\n').flatMap((line) => {
    const point = line.split(' ')[4];
    return point === undefined ? [] : [decode(point)];
  });
}
