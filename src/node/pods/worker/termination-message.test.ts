import assert from 'node:assert/strict';
import { test } from 'node:test';
import { logMessage } from './termination-message.ts';

test('the end of a CRI log as a message', () => {
  const log =
    'cut off\n2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P tw\n2026-01-01T00:00:00Z stderr F o o\n';
  assert.equal(logMessage(log), 'one\ntwo o\n');
  assert.equal(logMessage(''), '');
});
