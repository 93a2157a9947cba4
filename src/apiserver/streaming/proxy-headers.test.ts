import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requestHeaders, responseHeaders } from './proxy-headers.ts';

const flat = (text: string) => text.split('\n').flatMap((line) => line.split(': '));

test('hop-by-hop headers and those that Connection names stay behind; repeated ones stay apart', () => {
  const raw = flat(
    'Connection: Upgrade, X-Hop\nUpgrade: SPDY/3.1\nX-Hop: 1\nTE: trailers\nX-A: 1\nx-a: 2\nAccept: */*',
  );
  assert.deepEqual(requestHeaders(raw), { 'X-A': ['1', '2'], Accept: '*/*' });
  assert.deepEqual(responseHeaders(flat('Transfer-Encoding: chunked\nContent-Length: 3')), { 'Content-Length': '3' });
});

test('the user’s credentials do not reach the node', () => {
  const raw = flat(
    'Host: api\nAuthorization: Bearer x\nImpersonate-User: root\nX-Remote-User: root\nCookie: a\nSec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.dG9r, v5.channel.k8s.io',
  );
  assert.deepEqual(requestHeaders(raw), { 'Sec-WebSocket-Protocol': 'v5.channel.k8s.io' });
  const onlyToken = ['Sec-WebSocket-Protocol', 'base64url.bearer.authorization.k8s.io.dG9r'];
  assert.deepEqual(requestHeaders(onlyToken), {});
});
