/**
 * As much of a Kubernetes API as CoreDNS's kubernetes plugin lists and watches, with the objects of names.ts. A process of
 * its own: prints its port, ends with its standard input.
 */
import { createServer } from 'node:http';
import { endpointSlice, namespaces, SERVICES, service, stored } from './names.ts';

const all = <T extends { metadata: object }>(make: (i: number) => T) =>
  Array.from({ length: SERVICES }, (_, i) => stored(make(i), i));
const list = (apiVersion: string, kind: string, items: object[]) =>
  JSON.stringify({ apiVersion, kind: `${kind}List`, metadata: { resourceVersion: '1' }, items });

const lists: Record<string, string> = {
  '/api/v1/services': list('v1', 'Service', all(service)),
  '/api/v1/namespaces': list(
    'v1',
    'Namespace',
    namespaces.map((name, i) => stored({ metadata: { name } }, i)),
  ),
  '/api/v1/pods': list('v1', 'Pod', []),
  '/apis/discovery.k8s.io/v1/endpointslices': list('discovery.k8s.io/v1', 'EndpointSlice', all(endpointSlice)),
  '/version': JSON.stringify({ major: '1', minor: '36', gitVersion: 'v1.36.0' }),
  '/apis/discovery.k8s.io/v1': JSON.stringify({
    kind: 'APIResourceList',
    groupVersion: 'discovery.k8s.io/v1',
    resources: [
      { name: 'endpointslices', singularName: '', namespaced: true, kind: 'EndpointSlice', verbs: ['list', 'watch'] },
    ],
  }),
};

const server = createServer((request, response) => {
  const url = new URL(request.url!, 'http://localhost');
  const body = lists[url.pathname];
  const status = (code: number, reason: string) => {
    response.writeHead(code, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, code }));
  };
  if (body === undefined) return status(404, 'NotFound');
  // Streaming lists are a newer way that a server may refuse; clients then list.
  if (url.searchParams.has('sendInitialEvents')) return status(422, 'Invalid');
  response.writeHead(200, { 'content-type': 'application/json' });
  // A watch without changes stays open.
  if (url.searchParams.get('watch')) response.flushHeaders();
  else response.end(body);
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' ? address?.port : ''}\n`);
});
for await (const _ of process.stdin);
server.closeAllConnections();
server.close();
