/** Which kubectl the tests find on the PATH: a current one, or Debian's 1.20, which lacks what came later. */
import { execFileSync } from 'node:child_process';

/** The minor version of a kubectl: 32 for v1.32.4; undefined when there is none. */
export function kubectlMinor(program = 'kubectl'): number | undefined {
  try {
    const printed = execFileSync(program, ['version', '--client', '-o', 'json'], { encoding: 'utf8' });
    const { clientVersion } = JSON.parse(printed) as { clientVersion: { minor: string } };
    return Number.parseInt(clientVersion.minor, 10);
  } catch {
    return undefined;
  }
}

/** Exec and port-forward over WebSocket, OpenAPI v3, strict validation by the server: kubectl 1.31 does them by default. */
const CURRENT = 31;

/** For `skip`: false when kubectl on the PATH is current, else why not. */
export function currentKubectlMissing(): string | false {
  const minor = kubectlMinor();
  if (minor !== undefined && minor >= CURRENT) return false;
  const found = minor === undefined ? 'there is none' : `it is 1.${minor}`;
  return `needs kubectl 1.${CURRENT} or newer on the PATH; ${found} (see kubernetes.io/docs/tasks/tools)`;
}
