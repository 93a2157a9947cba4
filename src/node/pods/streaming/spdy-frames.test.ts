import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, inflateSync } from 'node:zlib';
import { decodeFrameHeader, encodeDataHeader, encodePing, encodeSynStream, FrameType } from './spdy-frames.ts';

test('frame headers', () => {
  assert.deepEqual(decodeFrameHeader(encodeDataHeader(7, 0x012345, 1)), {
    kind: 'data',
    streamId: 7,
    fin: true,
    length: 0x012345,
  });
  assert.deepEqual(decodeFrameHeader(encodePing(Buffer.from([0, 0, 0, 2]))), {
    kind: 'control',
    type: FrameType.PING,
    fin: false,
    length: 4,
  });
  assert.throws(() => decodeFrameHeader(Buffer.from([0x80, 2, 0, 1, 0, 0, 0, 0])), /SPDY version 2/);
});

test('the header blocks of a connection are one zlib stream that any inflater reads', () => {
  const blocks = [encodeSynStream(1, { streamType: 'error' }, true), encodeSynStream(3, { a: 'b' }, false)].map(
    (frame) => frame.subarray(18),
  );
  const inflate = (bytes: Buffer) => inflateSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH });
  const first = inflate(blocks[0]!);
  assert.equal(first.readUInt32BE(0), 1);
  assert.equal(first.subarray(8, 18).toString(), 'streamtype');
  assert.equal(inflate(Buffer.concat(blocks)).subarray(first.length).readUInt32BE(0), 1);
});
