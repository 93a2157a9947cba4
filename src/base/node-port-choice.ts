/** What `--nodeport-addresses` takes: one grammar for the command that starts a cluster and for the agents that serve. */
import { type Cidr, cidrContains, isCidr, parseCidr } from './ip.ts';

export type NodePortChoice = 'primary' | 'localhost' | 'all' | Cidr;

/** Throws a TypeError that names what is none. */
export function parseNodePortChoices(texts: readonly string[]): readonly NodePortChoice[] {
  return texts.map((text) => {
    if (text === 'primary' || text === 'localhost' || text === 'all') return text;
    if (isCidr(text)) return parseCidr(text);
    throw new TypeError(`not primary, localhost, all or a CIDR: ${JSON.stringify(text)}`);
  });
}

const LOOPBACK = parseCidr('127.0.0.0/8');

/** Whether a choice is about nothing but localhost; `all` and wider CIDRs only have it among others. */
export function isLocalhostOnly(choice: NodePortChoice): boolean {
  if (typeof choice === 'string') return choice === 'localhost';
  return choice.prefix >= LOOPBACK.prefix && cidrContains(LOOPBACK, choice.address);
}
