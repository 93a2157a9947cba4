/** What `--nodeport-addresses` takes: one grammar for the command that starts a cluster and for the agents that serve. */
import { type Cidr, isCidr, parseCidr } from './ip.ts';

export type NodePortChoice = 'primary' | 'localhost' | 'all' | Cidr;

/** Throws a TypeError that names what is none. */
export function parseNodePortChoices(texts: readonly string[]): readonly NodePortChoice[] {
  return texts.map((text) => {
    if (text === 'primary' || text === 'localhost' || text === 'all') return text;
    if (isCidr(text)) return parseCidr(text);
    throw new TypeError(`not primary, localhost, all or a CIDR: ${JSON.stringify(text)}`);
  });
}
