/**
 * The question "are your rules as new as this version of the EndpointSlices?" between two nodes' agents, and its answer: one
 * small datagram each. Pure.
 *
 *     u32 "pwsv" | u8 kind (1 question, 2 answer) | 3 zero bytes | 16 bytes nonce | u64 version
 *
 * The version of a question is the one that is asked for, that of an answer the newest in force. The nonce is random and
 * comes back: who cannot read the question cannot forge an answer. An answer is as long as its question, and both say nothing
 * that would need to be kept secret.
 */
export const DATAGRAM_BYTES = 32;
const MAGIC = 0x70777376;
const KINDS = { question: 1, answer: 2 } as const;

export interface Datagram {
  readonly kind: keyof typeof KINDS;
  /** 16 bytes in hexadecimal. */
  readonly nonce: string;
  /** A resourceVersion. */
  readonly version: number;
}

/** Writes into the buffer's first bytes and returns how many. */
export function encodeDatagram({ kind, nonce, version }: Datagram, into: Buffer): number {
  into.fill(0, 0, DATAGRAM_BYTES);
  into.writeUInt32BE(MAGIC, 0);
  into.writeUInt8(KINDS[kind], 4);
  into.write(nonce, 8, 'hex');
  into.writeBigUInt64BE(BigInt(version), 24);
  return DATAGRAM_BYTES;
}

/** Undefined for anything else. */
export function decodeDatagram(bytes: Buffer, length = bytes.length): Datagram | undefined {
  if (length !== DATAGRAM_BYTES || bytes.readUInt32BE(0) !== MAGIC) return undefined;
  const kind = bytes.readUInt8(4);
  const version = Number(bytes.readBigUInt64BE(24));
  if ((kind !== KINDS.question && kind !== KINDS.answer) || !Number.isSafeInteger(version)) return undefined;
  return { kind: kind === KINDS.question ? 'question' : 'answer', nonce: bytes.toString('hex', 8, 24), version };
}
