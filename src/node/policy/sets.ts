/**
 * The kernel's sets and maps of the table `inet podwire-policy`: how nft declares them, and what has to be known to write
 * their elements without it.
 */
import type { Field, SetLayout, TablePlace } from '../../linux/set-elements.ts';

export const tableName = 'podwire-policy';
export const tablePlace: TablePlace = { family: 'inet', table: tableName };
/** The nftables log group to which denied packets are copied; any number that nobody else on a node uses. */
export const logGroup = 28791;

/** A set or map: its nftables declaration, without elements. */
export interface SetDeclaration {
  readonly kind: 'set' | 'map';
  /** The body of the declaration: "typeof … ; flags interval;". */
  readonly body: string;
}

export type SetName = string;

interface Shape {
  /** A map's values. */
  readonly value?: Field;
  /** Keys may be ranges. */
  readonly interval?: boolean;
  /** Each element counts the packets that find it. */
  readonly counter?: boolean;
  /** What is asked for when the key is a packet's own fields: for fields that one type of data does not tell apart. */
  readonly address?: 'saddr' | 'daddr';
}

const declarations: Record<SetName, SetDeclaration> = {};
const layouts: Record<SetName, SetLayout> = {};

function declare(name: SetName, key: readonly Field[], shape: Shape = {}): void {
  const { value, interval, counter } = shape;
  // The sets that packets ask for a class and more are declared by the fields that are asked for.
  const isAsked = key[0] === 'classid' && key.length > 1;
  const spell = (field: Field) => (isAsked ? expressionOf(field, shape) : field);
  const types = key.map(spell).join(' . ') + (value ? ` : ${spell(value)}` : '');
  const flags = `${counter ? ' counter;' : ''}${interval ? ' flags interval;' : ''}`;
  declarations[name] = { kind: value ? 'map' : 'set', body: `${isAsked ? 'typeof' : 'type'} ${types};${flags}` };
  layouts[name] = { ...tablePlace, name, key, value: value && [value], interval };
}

function expressionOf(field: Field, { address }: Shape): string {
  switch (field) {
    case 'classid':
      return 'meta priority';
    case 'mark':
      return 'meta mark';
    case 'inet_proto':
      return 'meta l4proto';
    case 'inet_service':
      return 'th dport';
    case 'ipv4_addr':
    case 'ipv6_addr':
      return `${field === 'ipv4_addr' ? 'ip' : 'ip6'} ${address}`;
  }
}

const families = [
  ['4', 'ipv4_addr'],
  ['6', 'ipv6_addr'],
] as const;
const port = ['inet_proto', 'inet_service'] as const;

/** What a class may ask of identities: everything, a protocol, a port, ports. */
function declarePairs(prefix: string, value?: Field): void {
  const pair = ['classid', 'mark'] as const;
  const shape = value ? { value } : {};
  declare(`${prefix}_any`, pair, shape);
  declare(`${prefix}_protocol`, [...pair, 'inet_proto'], shape);
  declare(`${prefix}_port`, [...pair, ...port], shape);
  declare(`${prefix}_range`, [...pair, ...port], { ...shape, interval: true });
}

/** The tiers of ClusterNetworkPolicy: maps to the verdicts of `tierCodes`. */
function declareTiers(direction: 'ingress' | 'egress'): void {
  for (const tier of ['admin', 'baseline']) {
    for (const [n, address] of families) declare(`${tier}_${direction}${n}`, [address], { value: 'classid' });
  }
  declarePairs(`tier_${direction}`, 'mark');
  if (direction === 'ingress') return;
  for (const [n, field] of families) {
    const shape = { value: 'mark', interval: true, address: 'daddr' } as const;
    declare(`tier_egress_block${n}`, ['classid', field], shape);
    declare(`tier_egress_blockport${n}`, ['classid', field, ...port], shape);
  }
}

function declareDirection(direction: 'ingress' | 'egress'): void {
  for (const [n, field] of families) declare(`${direction}${n}`, [field], { value: 'classid' });
  declareTiers(direction);
  // Looked up by packets that are dropped, and by no others: a found element counts.
  declare(`denied_${direction}`, ['classid'], { counter: true });
  declare(`tier_denied_${direction}`, ['mark'], { counter: true });
  declarePairs(direction);
  const address = direction === 'ingress' ? 'saddr' : 'daddr';
  for (const [n, field] of families) {
    declare(`${direction}_block${n}`, ['classid', field], { interval: true, address });
    declare(`${direction}_blockport${n}`, ['classid', field, ...port], { interval: true, address });
    if (direction === 'egress') declare(`egress_podport${n}`, ['classid', field, ...port], { address });
  }
}

for (const [n, field] of families) declare(`identity${n}`, [field], { value: 'mark' });
for (const [n, field] of families) declare(`self${n}`, [field, field]);
declareDirection('ingress');
declareDirection('egress');

/** Every set and map by name, in the order of the rendered table. */
export const setDeclarations: Readonly<Record<SetName, SetDeclaration>> = declarations;

/** What the kernel has to be told of a set whose elements are written without nft. */
export function layoutOf(set: SetName): SetLayout {
  const layout = layouts[set];
  if (!layout) throw new Error(`no set ${set} in the table ${tableName}`);
  return layout;
}
