import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  chooseProtocol,
  decodeMessage,
  encodeMessage,
  errorChannelText,
  offeredProtocols,
  portForwardProtocols,
} from './channel-protocol.ts';

const choose = (header: string) => chooseProtocol(offeredProtocols(header));

test('the best protocol that both know', () => {
  assert.equal(choose('v4.channel.k8s.io, v5.channel.k8s.io')?.name, 'v5.channel.k8s.io');
  assert.equal(choose('base64.channel.k8s.io')?.base64, true);
  assert.equal(choose('')?.name, '');
  assert.equal(choose('v9.channel.k8s.io'), undefined);
  assert.equal(
    chooseProtocol(['v5.channel.k8s.io', 'v4.channel.k8s.io'], portForwardProtocols)?.name,
    'v4.channel.k8s.io',
  );
});

test('messages of both encodings', () => {
  const bytes = Buffer.from([0, 255, 10]);
  for (const name of ['v5.channel.k8s.io', 'v4.base64.channel.k8s.io']) {
    const protocol = choose(name)!;
    const message = encodeMessage(protocol, 3, bytes);
    assert.equal(typeof message, protocol.base64 ? 'string' : 'object');
    assert.deepEqual(decodeMessage(protocol, Buffer.from(message)), { channel: 3, bytes });
    assert.equal(decodeMessage(protocol, Buffer.alloc(0)), undefined);
  }
});

test('before v4 the error channel speaks text, and only of failures', () => {
  const failure = JSON.stringify({ status: 'Failure', message: 'exit code 3' });
  assert.equal(errorChannelText(choose('v4.channel.k8s.io')!, failure), failure);
  assert.equal(errorChannelText(choose('channel.k8s.io')!, failure), 'exit code 3');
  assert.equal(errorChannelText(choose('channel.k8s.io')!, '{"status":"Success"}'), undefined);
  assert.equal(errorChannelText(choose('')!, 'not JSON'), 'not JSON');
});
