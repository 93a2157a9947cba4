/**
 * The journal's lines: a CRC-32 in eight hex digits, a space, a JSON record, a newline. Pure.
 *
 * A crash can cut the last line anywhere (a torn tail) or, after a power cut, leave it as zeros: neither was ever
 * acknowledged, so both are dropped. Anything else that cannot be read is damage, and said so: dropping an acknowledged
 * line would hand an address out twice.
 */
import { crc32 } from 'node:zlib';
import { messageOf } from '../../base/errors.ts';
import { familyOf, type IpAddress, isIp } from '../../base/ip.ts';

/** Names the interface that an address is reserved for; a container may have several. */
export interface Attachment {
  readonly containerId: string;
  readonly ifname: string;
}

export interface ReservationRequest extends Attachment {
  readonly podNamespace: string;
  readonly podName: string;
  readonly podUid: string;
}

export interface Reservation extends ReservationRequest {
  /** One address per family, in the order of the node's podCIDRs. */
  readonly addresses: readonly IpAddress[];
  /** When it was made, milliseconds since the epoch. */
  readonly reservedAt: number;
}

export type JournalRecord =
  /** The first line of a journal. */
  | { readonly op: 'journal'; readonly version: 1 }
  | ({ readonly op: 'reserve' } & Reservation)
  | ({ readonly op: 'release' } & Attachment)
  /** The addresses handed out last, so that round-robin goes on after a compaction. */
  | { readonly op: 'cursor'; readonly addresses: readonly IpAddress[] };

/** The journal's content cannot be trusted. */
export class JournalCorruptError extends Error {
  override readonly name = 'JournalCorruptError';
  constructor(reason: string, options?: { cause?: unknown }) {
    super(`the journal of pod addresses is damaged: ${reason}`, options);
  }
}

export const attachmentKey = ({ containerId, ifname }: Attachment): string => `${containerId}/${ifname}`;

/** The line of a record, with its newline. */
export function renderRecord(record: JournalRecord): string {
  const json = JSON.stringify(record);
  return `${checksum(json)} ${json}\n`;
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}

export interface DecodedJournal {
  readonly records: readonly JournalRecord[];
  /** Length of the readable part; what follows is a torn tail, to be cut off before anything is appended. */
  readonly validBytes: number;
}

/** Reads a whole journal. Throws JournalCorruptError. */
export function decodeJournal(bytes: Buffer): DecodedJournal {
  const records: JournalRecord[] = [];
  let offset = 0;
  for (let line = 1; offset < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, offset);
    if (end < 0) break;
    const text = bytes.toString('utf8', offset, end);
    const record = parseLine(text);
    if (typeof record === 'string') {
      if (end === bytes.length - 1 && text.includes('\0')) break;
      throw new JournalCorruptError(`line ${line}: ${record}`);
    }
    if ((line === 1) !== (record.op === 'journal')) {
      throw new JournalCorruptError(`line ${line}: ${line === 1 ? 'not the head of a journal' : 'a second head'}`);
    }
    records.push(record);
    offset = end + 1;
  }
  return { records, validBytes: offset };
}

/** The record of a line without its newline, or what is wrong with it. */
function parseLine(line: string): JournalRecord | string {
  const json = line.slice(9);
  if (line[8] !== ' ' || line.slice(0, 8) !== checksum(json)) return 'the checksum does not match';
  try {
    return checkRecord(JSON.parse(json));
  } catch (error) {
    return messageOf(error);
  }
}

function checkRecord(value: unknown): JournalRecord {
  if (typeof value !== 'object' || value === null || !('op' in value)) throw new TypeError('not a record');
  const record = value as Record<string, unknown>;
  switch (record['op']) {
    case 'journal':
      if (record['version'] !== 1) throw new TypeError(`version ${String(record['version'])} is unknown`);
      break;
    case 'reserve':
      requireStrings(record, ['containerId', 'ifname', 'podNamespace', 'podName', 'podUid']);
      requireAddresses(record['addresses']);
      if (typeof record['reservedAt'] !== 'number') throw new TypeError('reservedAt is no number');
      break;
    case 'release':
      requireStrings(record, ['containerId', 'ifname']);
      break;
    case 'cursor':
      requireAddresses(record['addresses']);
      break;
    default:
      throw new TypeError(`the operation ${JSON.stringify(record['op'])} is unknown`);
  }
  return value as JournalRecord;
}

function requireStrings(record: Record<string, unknown>, names: readonly string[]): void {
  for (const name of names) if (typeof record[name] !== 'string') throw new TypeError(`${name} is no text`);
}

function requireAddresses(value: unknown): void {
  const isList = Array.isArray(value) && value.every((item) => typeof item === 'string' && isIp(item));
  if (!isList || new Set(value.map(familyOf)).size !== value.length) {
    throw new TypeError('addresses is no list of one address per family');
  }
}

/** What a journal's records add up to. */
export interface JournalState {
  readonly reservations: Map<string, Reservation>;
  /** The addresses handed out last, one per family. */
  lastAddresses: readonly IpAddress[];
}

/** Applies the records in order. Throws JournalCorruptError when an address would be held twice. */
export function replayJournal(records: readonly JournalRecord[]): JournalState {
  const state: JournalState = { reservations: new Map(), lastAddresses: [] };
  const holders = new Map<string, string>();
  for (const record of records) {
    if (record.op === 'reserve') {
      const { op: _, ...reservation } = record;
      const key = attachmentKey(record);
      for (const address of reservation.addresses) {
        const holder = holders.get(address);
        if (holder !== undefined) throw new JournalCorruptError(`${address} is held by ${holder} and by ${key}`);
        holders.set(address, key);
      }
      state.reservations.set(key, reservation);
      state.lastAddresses = reservation.addresses;
    } else if (record.op === 'release') {
      const key = attachmentKey(record);
      for (const address of state.reservations.get(key)?.addresses ?? []) holders.delete(address);
      state.reservations.delete(key);
    } else if (record.op === 'cursor') {
      state.lastAddresses = record.addresses;
    }
  }
  return state;
}
