/**
 * The terms of the DNS wire format (RFC 1035 section 4), as much of it as the server for cluster.local reads and writes: one
 * question, EDNS(0) (RFC 6891), and the record types A, AAAA, CNAME, SRV, PTR, NS, SOA, TXT. See decode.ts and encode.ts.
 *
 * Names are text in lower case without the final dot; "" is the root.
 */

/** TYPE and QTYPE values (IANA, Domain Name System parameters). */
export const Type = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;

/** Response codes; those above 15 need EDNS (RFC 6891 section 6.1.3). */
export const Rcode = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nxDomain: 3,
  notImplemented: 4,
  refused: 5,
  badVersion: 16,
} as const;

export const Class = { IN: 1, ANY: 255 } as const;

export const HEADER_BYTES = 12;
/** RFC 1035 section 4.2.1: what a datagram may have without EDNS. */
export const CLASSIC_UDP_BYTES = 512;
/** What we send at most in one datagram, whatever the client offers: no fragments on any common path (DNS flag day 2020). */
export const MAX_UDP_BYTES = 1232;
/** An OPT record without options. */
export const OPT_BYTES = 11;

/** Bits of the header's second 16 bits. */
export const Flag = {
  response: 0x8000,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
  checkingDisabled: 0x0010,
} as const;
export const OPCODE_MASK = 0x7800;

/** A request for one name. */
export interface Query {
  readonly id: number;
  /** As they came. */
  readonly flags: number;
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question's bytes as they came: sent back unchanged, because clients vary the case (0x20) and compare. */
  readonly question: Buffer;
  /** The datagram size that the client takes: 512 without EDNS. */
  readonly udpSize: number;
  /** What the OPT record said, where there was one. */
  readonly edns: Edns | undefined;
}

export interface Edns {
  readonly version: number;
  /** The DO bit, which a response repeats (RFC 3225 section 3). */
  readonly dnssecOk: boolean;
}

export type ResourceRecord = { readonly name: string; readonly ttl: number } & RecordData;

export type RecordData =
  | { readonly type: 'A' | 'AAAA'; readonly address: string }
  | { readonly type: 'CNAME' | 'PTR' | 'NS'; readonly target: string }
  | {
      readonly type: 'SRV';
      readonly priority: number;
      readonly weight: number;
      readonly port: number;
      readonly target: string;
    }
  | { readonly type: 'TXT'; readonly text: string }
  | {
      readonly type: 'SOA';
      readonly primary: string;
      readonly mailbox: string;
      readonly serial: number;
      readonly refresh: number;
      readonly retry: number;
      readonly expire: number;
      readonly minimum: number;
    };

export interface Answer {
  readonly rcode: number;
  readonly authoritative: boolean;
  readonly answers: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
}

/** An answer that is nothing but a response code. */
export function bareAnswer(rcode: number): Answer {
  return { rcode, authoritative: false, answers: [], authority: [], additional: [] };
}
