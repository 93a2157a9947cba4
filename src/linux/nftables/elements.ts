/**
 * Element changes of nftables sets and maps as nfnetlink messages (linux/netfilter/nf_tables.h), without nft. Pure.
 *
 * A transaction is a batch: NFNL_MSG_BATCH_BEGIN, changes, NFNL_MSG_BATCH_END, in one send. An attribute's length has 16
 * bits, so a list of elements is cut into messages of at most 64 KiB. All elements of a set have one size, as long as
 * its values are no verdicts: a template is copied and filled in, which is what makes it fast.
 *
 *     nlmsghdr | nfgenmsg | TABLE | SET | ELEMENTS { LIST_ELEM { KEY { VALUE } [KEY_END { VALUE }] [TIMEOUT] [DATA { VALUE }] } … }
 */
import type { Family } from '../../base/ip.ts';
import { Attributes, decodeMessages } from '../netlink/reader.ts';
import { HEADER_SIZE, type MessageWriter, NLM_F_ACK, NLM_F_CREATE } from '../netlink/writer.ts';
import { afOf } from '../rtnetlink/protocol.ts';
import { ElementColumns, textsOf } from './columns.ts';
import { decodeFields, decodeRanges, type Field, sizeOf, TextScanner, writeNumber } from './fields.ts';

// linux/netfilter/nfnetlink.h
export const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
/** sizeof(struct nfgenmsg). */
const GENERIC_SIZE = 4;
// linux/netfilter/nf_tables.h
const NFT_MSG_NEWSETELEM = 12;
const NFT_MSG_DELSETELEM = 14;
const NFTA_LIST = { table: 1, set: 2, elements: 3 } as const;
const NFTA_LIST_ELEM = 1;
const NFTA_ELEM = { key: 1, data: 2, timeout: 4, keyEnd: 10 } as const;
const NFTA_DATA = { value: 1, verdict: 2 } as const;
const NFTA_VERDICT = { code: 1, chain: 2 } as const;
const NLA_F_NESTED = 0x8000;
const ATTRIBUTE_HEADER = 4;
/** The longest value of a netlink attribute that still is a multiple of 4. */
const MAX_LIST = 65_528;

/** Verdicts: nft's enum nft_verdicts, and netfilter's own. */
const VERDICTS: Readonly<Record<string, number>> = { drop: 0, accept: 1, continue: -1, jump: -3, goto: -4, return: -5 };

/** The family of a table: IPv4, IPv6, or both in one ("inet"). */
export type TableFamily = Family | 'inet';

/** NFPROTO_INET, linux/netfilter.h. */
const NFPROTO_INET = 1;

/** What has to be known of a set to write its elements: what its declaration says. */
export interface SetLayout {
  readonly family: TableFamily;
  readonly table: string;
  readonly name: string;
  readonly key: readonly Field[];
  /** A map's values; absent for a set. */
  readonly value?: readonly Field[] | 'verdict' | undefined;
  /** "flags interval" on a concatenation: each field of the key may be a range ("80-90"), an address also a CIDR. */
  readonly interval?: boolean | undefined;
}

/** One step of a transaction. Elements are nft's text: "10.96.0.1 . tcp . 80 : 2"; deletions may leave the value out. */
export interface ElementChange {
  readonly op: 'add' | 'delete';
  readonly set: SetLayout;
  /** Deletes everything in the set when "all" (with the operation delete only). */
  readonly elements: readonly string[] | ElementColumns | 'all';
  /** For sets with the flag timeout: how long the elements stay. */
  readonly timeoutMs?: number | undefined;
}

const scanner = new TextScanner();

/** Writes a whole transaction. Throws TypeError on texts that are no elements of their set. */
export function encodeTransaction(writer: MessageWriter, changes: readonly ElementChange[]): void {
  const messages = changes.flatMap((change) => listsOf(change).map((list) => ({ change, list })));
  writer.reserve(messages.reduce((sum, { list }) => sum + MESSAGE_ROOM + (list?.size ?? 0), 2 * MESSAGE_ROOM));
  encodeBatchEdge(writer, NFNL_MSG_BATCH_BEGIN);
  messages.forEach(({ change, list }, i) => {
    // The kernel acknowledges a batch's last change after the commit; it answers to the END only since Linux 6.10.
    encodeMessage(writer, change, list, i === messages.length - 1 ? NLM_F_ACK : 0);
  });
  encodeBatchEdge(writer, NFNL_MSG_BATCH_END);
}

/** More than a message takes beside its elements, unless its set has a very long name. */
const MESSAGE_ROOM = 128;

function encodeBatchEdge(writer: MessageWriter, type: number): void {
  writer.message(type).u8(0).u8(0).be16(NFNL_SUBSYS_NFTABLES);
}

function encodeMessage(writer: MessageWriter, { op, set }: ElementChange, list: List | undefined, flags: number) {
  const type = (NFNL_SUBSYS_NFTABLES << 8) | (op === 'add' ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM);
  writer.message(type, flags | (op === 'add' ? NLM_F_CREATE : 0));
  writer
    .u8(protocolFamily(set.family))
    .u8(0)
    .be16(0)
    .attrString(NFTA_LIST.table, set.table)
    .attrString(NFTA_LIST.set, set.name);
  if (list) writer.nest(NFTA_LIST.elements, () => writer.filled(list.size, list.write));
}

/** How a table's family is written into a message. */
export function protocolFamily(family: TableFamily): number {
  return family === 'inet' ? NFPROTO_INET : afOf(family);
}

/** Elements for one message. */
interface List {
  readonly size: number;
  readonly write: (bytes: Buffer, offset: number) => void;
}

/** The elements of a change, cut into lists that fit into a message; one without a list means all elements. */
function listsOf(change: ElementChange): readonly (List | undefined)[] {
  const { set, op, elements } = change;
  if (elements === 'all') return [undefined];
  if (set.interval && set.key.length < 2)
    throw new TypeError(`${set.name}: intervals of a single field are nft's to write`);
  if (op === 'add' && set.value === 'verdict') return encodeVerdicts(set, textsOf(elements));
  const template = elementTemplate(change);
  const size = template.bytes.length;
  const perList = Math.floor(MAX_LIST / size);
  const fill =
    elements instanceof ElementColumns && !set.interval
      ? columnFiller(set, elements, template)
      : textFiller(change, textsOf(elements), template);
  const lists: List[] = [];
  for (let from = 0; from < elements.length; from += perList) {
    const to = Math.min(from + perList, elements.length);
    const write: List['write'] = (bytes, offset) => {
      repeat(template.bytes, to - from, bytes, offset);
      fill(from, to, bytes, offset);
    };
    lists.push({ size: (to - from) * size, write });
  }
  return lists;
}

/** Writes so many copies one after the other, each time as many as are there already. */
function repeat(template: Buffer, count: number, bytes: Buffer, offset: number): void {
  const whole = template.length * count;
  bytes.set(template, offset);
  for (let done = template.length; done < whole; done *= 2)
    bytes.copyWithin(offset + done, offset, offset + Math.min(done, whole - done));
}

/** Writes the keys and values of some elements into copies of the template, the first of which begins at the offset. */
type Filler = (from: number, to: number, bytes: Buffer, offset: number) => void;

interface Template {
  readonly bytes: Buffer;
  readonly keyAt: number;
  readonly keyEndAt: number | undefined;
  readonly valueAt: number | undefined;
}

/** An element with everything but its key and value. */
function elementTemplate({ op, set, timeoutMs }: ElementChange): Template {
  const keySize = sizeOf(set.key);
  const valueSize = op === 'add' && set.value && set.value !== 'verdict' ? sizeOf(set.value) : undefined;
  const hasTimeout = op === 'add' && timeoutMs !== undefined;
  const data = (size: number) => 2 * ATTRIBUTE_HEADER + size;
  const size =
    ATTRIBUTE_HEADER +
    data(keySize) * (set.interval ? 2 : 1) +
    (hasTimeout ? ATTRIBUTE_HEADER + 8 : 0) +
    (valueSize === undefined ? 0 : data(valueSize));
  const bytes = Buffer.alloc(size);
  let at = writeHeader(bytes, 0, NFTA_LIST_ELEM | NLA_F_NESTED, size);
  const writeData = (type: number, valueLength: number): number => {
    at = writeHeader(bytes, at, type | NLA_F_NESTED, data(valueLength));
    const start = writeHeader(bytes, at, NFTA_DATA.value, ATTRIBUTE_HEADER + valueLength);
    at = start + valueLength;
    return start;
  };
  const keyAt = writeData(NFTA_ELEM.key, keySize);
  const keyEndAt = set.interval ? writeData(NFTA_ELEM.keyEnd, keySize) : undefined;
  if (hasTimeout) {
    at = writeHeader(bytes, at, NFTA_ELEM.timeout, ATTRIBUTE_HEADER + 8);
    at = bytes.writeBigUInt64BE(BigInt(timeoutMs), at);
  }
  const valueAt = valueSize === undefined ? undefined : writeData(NFTA_ELEM.data, valueSize);
  return { bytes, keyAt, keyEndAt, valueAt };
}

function writeHeader(bytes: Buffer, at: number, type: number, length: number): number {
  bytes.writeUInt16LE(length, at);
  return bytes.writeUInt16LE(type, at + 2);
}

function textFiller({ set, op }: ElementChange, elements: readonly string[], template: Template): Filler {
  const { keyAt, keyEndAt, valueAt } = template;
  const size = template.bytes.length;
  return (from, to, bytes, offset) => {
    for (let i = from, start = offset; i < to; i++, start += size) {
      scanner.begin(elements[i]!);
      if (keyEndAt === undefined) scanner.fields(set.key, bytes, start + keyAt);
      else scanner.ranges(set.key, bytes, start + keyAt, start + keyEndAt);
      if (valueAt !== undefined) {
        scanner.expect(' : ');
        scanner.fields(set.value as readonly Field[], bytes, start + valueAt);
      }
      if (!scanner.isAtEnd && !(op === 'delete' && scanner.text.startsWith(' : ', scanner.at))) scanner.fail('the end');
    }
  };
}

/** Neighbours mostly have one key and differ in its last number: it is read once. */
function columnFiller(set: SetLayout, columns: ElementColumns, template: Template): Filler {
  const { keys, numbers, values } = columns;
  const { keyAt, valueAt } = template;
  const size = template.bytes.length;
  const isNumbered = numbers.length > 0;
  const fields = isNumbered ? set.key.slice(0, -1) : set.key;
  const last = set.key[set.key.length - 1]!;
  const numberAt = keyAt + sizeOf(fields);
  const valueFields = valueAt === undefined ? [] : (set.value as readonly Field[]);
  return (from, to, bytes, offset) => {
    for (let i = from, start = offset; i < to; i++, start += size) {
      const key = keys[i]!;
      if (i > from && key === keys[i - 1]) {
        for (let at = start + keyAt; at < start + numberAt; at++) bytes[at] = bytes[at - size]!;
      } else scanner.whole(key, fields, bytes, start + keyAt);
      if (isNumbered) writeNumber(last, numbers[i], bytes, start + numberAt);
      if (valueAt === undefined) continue;
      const value = values[i];
      if (typeof value === 'string') scanner.whole(value, valueFields, bytes, start + valueAt);
      else writeNumber(valueFields[0]!, value, bytes, start + valueAt);
    }
  };
}

/** Elements that lead somewhere have names in them, and so each its own size. */
function encodeVerdicts(set: SetLayout, elements: readonly string[]): List[] {
  const lists: Buffer[][] = [[]];
  let length = 0;
  for (const element of elements) {
    const bytes = encodeVerdict(set, element);
    if (length + bytes.length > MAX_LIST) {
      lists.push([]);
      length = 0;
    }
    lists.at(-1)!.push(bytes);
    length += bytes.length;
  }
  return lists
    .filter((list) => list.length > 0)
    .map((list) => {
      const joined = Buffer.concat(list);
      return { size: joined.length, write: (bytes, offset) => bytes.set(joined, offset) };
    });
}

function encodeVerdict(set: SetLayout, element: string): Buffer {
  const key = Buffer.alloc(sizeOf(set.key));
  scanner.begin(element).fields(set.key, key, 0);
  scanner.expect(' : ');
  const word = scanner.word();
  const code = VERDICTS[word] ?? scanner.fail('a verdict');
  const parts = [attribute(NFTA_VERDICT.code, bigEndian(code))];
  if (word === 'goto' || word === 'jump') {
    scanner.expect(' ');
    parts.push(attribute(NFTA_VERDICT.chain, Buffer.from(`${scanner.word()}\0`)));
  }
  if (!scanner.isAtEnd) scanner.fail('the end');
  const verdict = attribute(NFTA_DATA.verdict | NLA_F_NESTED, Buffer.concat(parts));
  const keyAttribute = attribute(NFTA_ELEM.key | NLA_F_NESTED, attribute(NFTA_DATA.value, key));
  const data = attribute(NFTA_ELEM.data | NLA_F_NESTED, verdict);
  return attribute(NFTA_LIST_ELEM | NLA_F_NESTED, Buffer.concat([keyAttribute, data]));
}

function attribute(type: number, value: Buffer): Buffer {
  const bytes = Buffer.alloc(ATTRIBUTE_HEADER + Math.ceil(value.length / 4) * 4);
  writeHeader(bytes, 0, type, ATTRIBUTE_HEADER + value.length);
  bytes.set(value, ATTRIBUTE_HEADER);
  return bytes;
}

function bigEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/** One message of a transaction, read back: what it does and to which elements. */
export interface DecodedChange {
  readonly op: 'add' | 'delete';
  readonly family: TableFamily;
  readonly table: string;
  readonly set: string;
  /** Text by where the element's attribute begins in the message; empty for "all". */
  readonly elements: ReadonlyMap<number, string>;
}

/**
 * Reads the changes of a transaction's bytes back, for tests and for the words of an error; the batch's edges are undefined.
 * `layoutOf` says what is known of a set; elements of others are read as "?".
 */
export function decodeTransaction(
  bytes: Buffer,
  layoutOf: (family: TableFamily, table: string, set: string) => SetLayout | undefined,
): (DecodedChange | undefined)[] {
  return decodeMessages(bytes).map(({ type, payload }) => {
    const op = { [NFT_MSG_NEWSETELEM]: 'add', [NFT_MSG_DELSETELEM]: 'delete' } as const;
    const verb = type >> 8 === NFNL_SUBSYS_NFTABLES ? op[(type & 0xff) as keyof typeof op] : undefined;
    if (!verb) return undefined;
    const family = payload[0] === NFPROTO_INET ? 'inet' : payload[0] === afOf(4) ? 4 : 6;
    const attributes = new Attributes(payload, GENERIC_SIZE);
    const table = attributes.string(NFTA_LIST.table) ?? '?';
    const set = attributes.string(NFTA_LIST.set) ?? '?';
    const layout = layoutOf(family, table, set);
    const list = attributes.bytes(NFTA_LIST.elements);
    const elements = new Map<number, string>();
    const listAt = list ? list.byteOffset - payload.byteOffset + HEADER_SIZE : 0;
    for (let at = 0; list && at + ATTRIBUTE_HEADER <= list.length; ) {
      const length = list.readUInt16LE(at);
      if (length < ATTRIBUTE_HEADER || at + length > list.length) break;
      elements.set(listAt + at, decodeElement(list.subarray(at + ATTRIBUTE_HEADER, at + length), layout));
      at += Math.ceil(length / 4) * 4;
    }
    return { op: verb, family, table, set, elements };
  });
}

function decodeElement(bytes: Buffer, layout: SetLayout | undefined): string {
  if (!layout) return '?';
  const attributes = new Attributes(bytes);
  const bytesOf = (type: number) => attributes.nested(type)?.bytes(NFTA_DATA.value);
  const first = bytesOf(NFTA_ELEM.key) ?? Buffer.alloc(0);
  const last = bytesOf(NFTA_ELEM.keyEnd);
  const key = last ? decodeRanges(layout.key, first, last) : decodeFields(layout.key, first);
  const data = attributes.nested(NFTA_ELEM.data);
  if (!data || !layout.value) return key;
  return `${key} : ${layout.value === 'verdict' ? decodeVerdict(data) : decodeFields(layout.value, data.bytes(NFTA_DATA.value) ?? Buffer.alloc(0))}`;
}

function decodeVerdict(data: Attributes): string {
  const verdict = data.nested(NFTA_DATA.verdict);
  const code = (verdict?.be32(NFTA_VERDICT.code) ?? 0) | 0;
  const word = Object.entries(VERDICTS).find(([, value]) => value === code)?.[0] ?? String(code);
  const chain = verdict?.string(NFTA_VERDICT.chain);
  return chain === undefined ? word : `${word} ${chain}`;
}
