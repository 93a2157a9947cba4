import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeLogLine, fixedWidthTimestamp, isBefore, parseInstant } from './log-line.ts';

const decode = (text: string) => {
  const line = decodeLogLine(Buffer.from(text));
  return line && { ...line, text: line.text.toString() };
};

test('a CRI line has a time, a stream, tags and text', () => {
  const timestamp = '2026-11-21T09:07:23.058340202Z';
  const cases: [string, ReturnType<typeof decode>][] = [
    [`${timestamp} stdout F hello`, { timestamp, stream: 'stdout', partial: false, text: 'hello' }],
    [`${timestamp} stderr P  two  spaces`, { timestamp, stream: 'stderr', partial: true, text: ' two  spaces' }],
    [`${timestamp} stdout F `, { timestamp, stream: 'stdout', partial: false, text: '' }],
    [`${timestamp} stdout F`, { timestamp, stream: 'stdout', partial: false, text: '' }],
    [`${timestamp} stdout P:more:tags x`, { timestamp, stream: 'stdout', partial: true, text: 'x' }],
    [`${timestamp} stdlog F x`, undefined],
    [`${timestamp} stdout  x`, undefined],
    [timestamp, undefined],
    ['', undefined],
  ];
  for (const [text, expected] of cases) assert.deepEqual(decode(text), expected, text);
});

test('text is kept byte by byte', () => {
  const bytes = Buffer.concat([Buffer.from('t stdout F '), Buffer.from([0xff, 0x00, 0xc3, 0x28])]);
  assert.deepEqual(decodeLogLine(bytes)?.text, Buffer.from([0xff, 0x00, 0xc3, 0x28]));
});

test('instants compare across zones and to the nanosecond', () => {
  const at = (text: string) => parseInstant(text)!;
  assert.ok(isBefore(at('2026-01-01T00:00:00.000000001Z'), at('2026-01-01T00:00:00.000000002Z')));
  assert.ok(!isBefore(at('2026-01-01T01:00:00+01:00'), at('2026-01-01T00:00:00Z')));
  assert.ok(isBefore(at('2026-01-01T00:59:59.9+01:00'), at('2026-01-01T00:00:00Z')));
  assert.equal(parseInstant('yesterday'), undefined);
  assert.equal(parseInstant('2026-13-01T00:00:00Z'), undefined);
});

test('printed time stamps have nine digits', () => {
  assert.equal(fixedWidthTimestamp('2026-01-01T00:00:00.5Z'), '2026-01-01T00:00:00.500000000Z');
  assert.equal(fixedWidthTimestamp('2026-01-01T00:00:00+01:00'), '2026-01-01T00:00:00.000000000+01:00');
});
