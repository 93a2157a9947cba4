/** The registry of kinds: one line each. A kind is added by a file beside this one and a line here. */
import type { Kind } from './kind.ts';
import { namespace } from './namespace.ts';
import { node } from './node.ts';
import { pod } from './pod.ts';
import { service } from './service.ts';

export const kinds: readonly Kind[] = [namespace, node, pod, service];
