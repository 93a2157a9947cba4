import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findTailOffset } from './log-tail.ts';

/** A file in memory. */
function fileOf(bytes: Buffer) {
  const read = async (buffer: Buffer, offset: number, length: number, position: number) => ({
    bytesRead: bytes.copy(buffer, offset, position, Math.min(bytes.length, position + length)),
    buffer,
  });
  return { read } as unknown as Parameters<typeof findTailOffset>[0];
}

const tail = async (text: string, count: number, block?: number) => {
  const bytes = Buffer.from(text);
  return bytes.subarray(await findTailOffset(fileOf(bytes), bytes.length, count, block)).toString();
};

const line = (tag: 'F' | 'P', text: string) => `2026-01-01T00:00:00.000000000Z stdout ${tag} ${text}\n`;

test('the tail of a file', async () => {
  const [a, b, c] = [line('F', 'a'), line('F', 'b'), line('F', 'c')];
  assert.equal(await tail(a + b + c, 2), b + c);
  assert.equal(await tail(a + b + c, 0), '');
  assert.equal(await tail(a + b + c, 3), a + b + c);
  assert.equal(await tail(a + b + c, 99), a + b + c);
  assert.equal(await tail('', 5), '');
});

test('parts of one output line count once', async () => {
  const long = line('P', 'x') + line('P', 'y') + line('F', 'z');
  const last = line('F', 'end');
  assert.equal(await tail(last + long + last, 2), long + last);
  assert.equal(await tail(long, 1), long);
});

test('an output line that has not ended yet counts', async () => {
  const open = line('P', 'x') + line('P', 'y');
  assert.equal(await tail(line('F', 'a') + open, 1), open);
});

test('bytes after the last newline belong to no line', async () => {
  assert.equal(await tail(`${line('F', 'a')}${line('F', 'b')}2026-01`, 1), `${line('F', 'b')}2026-01`);
});

test('property: any block size finds what a whole scan finds', async () => {
  const lines = fc.array(fc.tuple(fc.constantFrom('F', 'P'), fc.string({ maxLength: 150 })), { maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(lines, fc.nat(8), fc.integer({ min: 1, max: 400 }), async (parts, count, block) => {
      const text = parts.map(([tag, body]) => line(tag as 'F' | 'P', body.replaceAll('\n', ' '))).join('');
      assert.equal(await tail(text, count, block), await tail(text, count, text.length + 1));
      const output = parts.map(([tag]) => (tag === 'F' ? '\n' : 'p')).join('');
      const wanted = (output.match(/[^\n]*\n|[^\n]+$/g) ?? []).slice(count === 0 ? Number.POSITIVE_INFINITY : -count);
      assert.equal((await tail(text, count, block)).split('\n').length - 1, wanted.join('').length);
    }),
    { numRuns: 150 },
  );
});
