/** Ports of probes and hooks: a number, or the name of one of the container's ports. Pure. */
import type { corev1 } from '../../../kube/types.ts';

export function resolvePort(port: number | string, container: corev1.Container): number {
  const text = String(port);
  const number = /^\d+$/.test(text)
    ? Number(text)
    : container.ports?.find(({ name }) => name !== undefined && name === text)?.containerPort;
  if (number === undefined || number < 1 || number > 65535)
    throw new TypeError(`invalid port: container ${container.name} has no port ${JSON.stringify(port)}`);
  return number;
}
