/** What this machine can give to pods: the same figures for the Node object and for the downward API. */
import { statfs } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';

export interface NodeResources {
  /** Bytes. */
  readonly memoryBytes: number;
  /** As the API writes them: "2", "4030500Ki" … */
  readonly capacity: Readonly<Record<string, string>>;
}

/** The kubelet's default maxPods. */
const DEFAULT_MAX_PODS = 110;

/** `rootDir` is where containers' files live: its file system is the node's ephemeral storage. */
export async function nodeResources(rootDir: string, maxPods = DEFAULT_MAX_PODS): Promise<NodeResources> {
  const memoryBytes = totalmem();
  const { blocks, bsize } = await statfs(rootDir);
  const kibi = (bytes: number) => `${Math.floor(bytes / 1024)}Ki`;
  return {
    memoryBytes,
    capacity: {
      cpu: String(Math.max(1, cpus().length)),
      memory: kibi(memoryBytes),
      'ephemeral-storage': kibi(blocks * bsize),
      pods: String(maxPods),
    },
  };
}
