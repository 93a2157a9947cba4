/** Types of the core group. */
import { type ObjectSchema, object, type Schema } from '../schema/schema.ts';

type About = Parameters<typeof object>[2];

/** A type of core/v1 by its short name, with its description or what else is to be said of it. */
export function coreObject(
  name: string,
  fields: Readonly<Record<string, Schema>>,
  about: string | About = {},
): ObjectSchema {
  return object(`io.k8s.api.core.v1.${name}`, fields, typeof about === 'string' ? { description: about } : about);
}
