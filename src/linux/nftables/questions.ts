/**
 * What is asked often of nftables, as nfnetlink messages (linux/netfilter/nf_tables.h), without nft: whether a chain is there,
 * and what counters say. Pure.
 */
import { Attributes } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_DUMP } from '../netlink/writer.ts';
import { NFNL_SUBSYS_NFTABLES, protocolFamily, type SetLayout, type TableFamily } from './elements.ts';
import { decodeFields } from './fields.ts';

/** sizeof(struct nfgenmsg). */
const GENERIC_SIZE = 4;
// linux/netfilter/nf_tables.h
const NFT_MSG_GETCHAIN = 4;
const NFT_MSG_GETSETELEM = 13;
const NFT_MSG_GETOBJ = 19;
const NFTA_CHAIN = { table: 1, name: 3 } as const;
const NFTA_LIST = { table: 1, set: 2, elements: 3 } as const;
const NFTA_ELEM = { key: 1, expression: 7, expressions: 11 } as const;
const NFTA_DATA_VALUE = 1;
const NFTA_EXPR = { name: 1, data: 2 } as const;
const NFTA_OBJ = { table: 1, name: 2, type: 3, data: 4 } as const;
const NFT_OBJECT_COUNTER = 1;
const NFTA_COUNTER_PACKETS = 2;

/** Where something is in the ruleset. */
export interface TablePlace {
  readonly family: TableFamily;
  readonly table: string;
}

export function encodeChainQuestion(writer: MessageWriter, { family, table }: TablePlace, chain: string): void {
  begin(writer, NFT_MSG_GETCHAIN, family).attrString(NFTA_CHAIN.table, table).attrString(NFTA_CHAIN.name, chain);
}

/** Asks for all elements of a set. */
export function encodeElementsQuestion(writer: MessageWriter, { family, table, name }: SetLayout): void {
  begin(writer, NFT_MSG_GETSETELEM, family, NLM_F_DUMP)
    .attrString(NFTA_LIST.table, table)
    .attrString(NFTA_LIST.set, name);
}

export function encodeCounterQuestion(writer: MessageWriter, { family, table }: TablePlace, name: string): void {
  begin(writer, NFT_MSG_GETOBJ, family)
    .attrString(NFTA_OBJ.table, table)
    .attrString(NFTA_OBJ.name, name)
    .attrBe32(NFTA_OBJ.type, NFT_OBJECT_COUNTER);
}

function begin(writer: MessageWriter, type: number, family: TableFamily, flags = 0): MessageWriter {
  writer.message((NFNL_SUBSYS_NFTABLES << 8) | type, flags);
  return writer.u8(protocolFamily(family)).u8(0).be16(0);
}

/** The packets that elements counted, by their keys, from one answer to `encodeElementsQuestion`. */
export function decodeElementCounters(
  payload: Buffer,
  { key }: SetLayout,
): (readonly [key: string, packets: number])[] {
  const list = new Attributes(payload, GENERIC_SIZE).bytes(NFTA_LIST.elements);
  return nestedIn(list).flatMap((element) => {
    const value = element.nested(NFTA_ELEM.key)?.bytes(NFTA_DATA_VALUE);
    const single = element.nested(NFTA_ELEM.expression);
    const expressions = single ? [single] : nestedIn(element.bytes(NFTA_ELEM.expressions));
    const counter = expressions.find((each) => each.string(NFTA_EXPR.name) === 'counter')?.nested(NFTA_EXPR.data);
    return value && counter ? [[decodeFields(key, value), packetsOf(counter)] as const] : [];
  });
}

/** The packets of a named counter, from the answer to `encodeCounterQuestion`. */
export function decodeCounter(payload: Buffer): number | undefined {
  const counter = new Attributes(payload, GENERIC_SIZE).nested(NFTA_OBJ.data);
  return counter && packetsOf(counter);
}

function packetsOf(counter: Attributes): number {
  const packets = counter.bytes(NFTA_COUNTER_PACKETS);
  return packets?.length === 8 ? Number(packets.readBigUInt64BE()) : 0;
}

/** The members of a list, which all have one type. */
function nestedIn(list: Buffer | undefined): Attributes[] {
  const members: Attributes[] = [];
  for (let at = 0; list && at + 4 <= list.length; ) {
    const length = list.readUInt16LE(at);
    if (length < 4 || at + length > list.length) break;
    members.push(new Attributes(list.subarray(at + 4, at + length)));
    at += Math.ceil(length / 4) * 4;
  }
  return members;
}
