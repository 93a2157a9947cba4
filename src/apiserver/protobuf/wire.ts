/** The wire format of protocol buffers (protobuf.dev/programming-guides/encoding): keys, varints, length-delimited fields. */

export class ProtobufError extends Error {
  override readonly name = 'ProtobufError';
}

export interface WireField {
  readonly number: number;
  readonly value: WireValue;
}

/** A varint (signed, 64 bits), the bytes of what is length-delimited, or the 8 or 4 bytes of a fixed-size field. */
export type WireValue = bigint | Buffer | { readonly fixed: Buffer };

/** The fields in the order in which they were written. Throws ProtobufError on broken input; linear in time. */
export function wireFields(bytes: Buffer): WireField[] {
  const reader = new Reader(bytes);
  const fields: WireField[] = [];
  while (!reader.atEnd()) {
    const key = Number(reader.varint());
    const number = Math.floor(key / 8);
    if (number < 1 || number >= 2 ** 29) throw new ProtobufError(`${number} is no field number`);
    fields.push({ number, value: readValue(reader, key % 8) });
  }
  return fields;
}

/** Groups (3 and 4) are older than Kubernetes and unused there. */
function readValue(reader: Reader, wireType: number): WireValue {
  switch (wireType) {
    case 0:
      return reader.varint();
    case 1:
      return { fixed: reader.take(8) };
    case 2:
      return reader.take(Number(reader.varint()));
    case 5:
      return { fixed: reader.take(4) };
    default:
      throw new ProtobufError(`wire type ${wireType} is not supported`);
  }
}

/** The varints of a repeated field that was written packed, in one length-delimited field. */
export function packedVarints(bytes: Buffer): bigint[] {
  const reader = new Reader(bytes);
  const values: bigint[] = [];
  while (!reader.atEnd()) values.push(reader.varint());
  return values;
}

export function bytesOf(value: WireValue): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw new ProtobufError('a field has the wrong wire type');
}

export function varintOf(value: WireValue): bigint {
  if (typeof value === 'bigint') return value;
  throw new ProtobufError('a field has the wrong wire type');
}

class Reader {
  #at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  varint(): bigint {
    const first = this.#bytes[this.#at];
    // Most are keys, lengths and small numbers.
    if (first !== undefined && first < 0x80) {
      this.#at++;
      return BigInt(first);
    }
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new ProtobufError('unexpected end');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw new ProtobufError('a varint is too long');
  }

  take(length: number): Buffer {
    if (length < 0 || this.#at + length > this.#bytes.length) throw new ProtobufError('unexpected end');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}
