/** Pod templates: their equality and the hash that names a ReplicaSet. Pure. */
import type { corev1 } from '../../kube/types.ts';

export const templateHashLabel = 'pod-template-hash';

type Template = corev1.PodTemplateSpec;

/** Characters of Kubernetes' rand.SafeEncodeString: no vowels, so that no hash is a word. */
const alphabet = 'bcdfghjklmnpqrstvwxz2456789';

/** FNV-1a over the template, 32 bits. `collisions` makes it another one when the name was taken. */
export function templateHash(template: Template, collisions = 0): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(`${canonical(template)}${collisions || ''}`)) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return [...String(hash)].map((digit) => alphabet[digit.charCodeAt(0) % alphabet.length]).join('');
}

/** Whether two templates make the same pods; the hash label itself does not count. */
export function sameTemplate(a: Template, b: Template): boolean {
  return canonical(a) === canonical(b);
}

export function withTemplateHash(template: Template, hash: string): Template {
  const labels = { ...template.metadata?.labels, [templateHashLabel]: hash };
  return { ...template, metadata: { ...template.metadata, labels } };
}

function canonical(template: Template): string {
  const { [templateHashLabel]: _hash, ...labels } = template.metadata?.labels ?? {};
  return JSON.stringify(sortKeys({ ...template, metadata: { ...template.metadata, labels } }));
}

/** Keys in order; null counts as absent (client-go writes creationTimestamp: null). */
function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value)
    .filter(([, item]) => item !== null && item !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sortKeys(item)]));
}
