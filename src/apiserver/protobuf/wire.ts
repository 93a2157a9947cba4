/** The wire format of protocol buffers (protobuf.dev/programming-guides/encoding): keys, varints, length-delimited fields. */

export class ProtobufError extends Error {
  override readonly name = 'ProtobufError';
}

export interface WireField {
  readonly number: number;
  /** A varint (signed, 64 bits), the bytes of what is length-delimited, or the 8 or 4 bytes of a fixed-size field. */
  readonly value: bigint | Buffer;
}

/** The fields in the order in which they were written. Throws ProtobufError on broken input. */
export function wireFields(bytes: Buffer): WireField[] {
  const fields: WireField[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new ProtobufError('unexpected end');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw new ProtobufError('a varint is too long');
  };
  const take = (length: number): Buffer => {
    if (length < 0 || at + length > bytes.length) throw new ProtobufError('unexpected end');
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const number = Math.floor(key / 8);
    if (number < 1) throw new ProtobufError('a field without number');
    switch (key & 7) {
      case 0:
        fields.push({ number, value: varint() });
        break;
      case 1:
        fields.push({ number, value: take(8) });
        break;
      case 2:
        fields.push({ number, value: take(Number(varint())) });
        break;
      case 5:
        fields.push({ number, value: take(4) });
        break;
      default:
        throw new ProtobufError(`wire type ${key & 7} is not supported`);
    }
  }
  return fields;
}
