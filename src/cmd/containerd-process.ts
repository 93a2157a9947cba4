/** Finds the container runtime's process: the one named containerd in this process's own network namespace. */
import { readdirSync, readFileSync, statSync } from 'node:fs';

/** The PID, or undefined while it does not run. */
export function containerdPid(): number | undefined {
  const own = statSync('/proc/self/ns/net').ino;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (readFileSync(`/proc/${name}/comm`, 'utf8') !== 'containerd\n') continue;
      if (statSync(`/proc/${name}/ns/net`).ino === own) return Number(name);
    } catch {
      // it ended meanwhile
    }
  }
  return undefined;
}
