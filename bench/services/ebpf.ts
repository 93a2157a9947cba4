/** The mode ebpf for benchmarks: compiled programs, and a control group in which clients are the node's. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../src/base/errors.ts';
import { compileServicePrograms } from '../../src/cluster/service-programs.ts';
import { cgroup2Root, makeCgroup, removeCgroup } from '../../src/linux/cgroup.ts';
import { detachPrograms } from '../../src/node/services/ebpf/programs.ts';
import { SocketRules } from '../../src/node/services/ebpf/reconciler.ts';
import type { OpenRules } from '../../src/node/services/rules.ts';

export interface SocketBench extends AsyncDisposable {
  readonly cgroup: string;
  /** The rules of the mode, which tell of each change that is in force. */
  rules(packets: OpenRules, onCommit: () => void): OpenRules;
  /** Ends what the rules opened last have, and takes their programs off. */
  release(): void;
}

/** Undefined, with a word on stderr, where the mode cannot be run on this machine. Each has a control group of its own name. */
export async function ebpfBench(name: string): Promise<SocketBench | undefined> {
  const root = cgroup2Root();
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-ebpf-'));
  try {
    if (!root) throw new Error('no control groups of version 2 are mounted');
    const object = join(folder, 'services.o');
    await compileServicePrograms(object);
    return benchIn(join(root, `podwire-bench-${process.pid}-${name}`), object, folder);
  } catch (error) {
    rmSync(folder, { recursive: true });
    process.stderr.write(`the mode ebpf is left out: ${messageOf(error)}\n`);
    return undefined;
  }
}

function benchIn(cgroup: string, object: string, folder: string): SocketBench {
  makeCgroup(cgroup);
  let opened: SocketRules | undefined;
  const release = () => {
    opened?.close();
    opened = undefined;
    detachPrograms(cgroup);
  };
  return {
    cgroup,
    release,
    rules: (packets, onCommit) => (context) => {
      release();
      const rules = new SocketRules({ object, cgroup, packets }, context);
      const apply = rules.apply.bind(rules);
      rules.apply = async (models) => {
        await apply(models);
        onCommit();
      };
      opened = rules;
      return rules;
    },
    async [Symbol.asyncDispose]() {
      release();
      for (let i = 0; i < 100 && !removeCgroup(cgroup); i++) await new Promise((resolve) => setTimeout(resolve, 10));
      rmSync(folder, { recursive: true });
    },
  };
}
