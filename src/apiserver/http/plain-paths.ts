/** /version, health, metrics, OpenAPI: paths that are no resources. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Kind } from '../resources/kind.ts';
import type { PlainPaths } from './handler.ts';
import { sendBytes } from './respond.ts';

/** The API level that the server speaks; tools read it. */
const MINOR = '36';

export function versionInfo(): object {
  return {
    major: '1',
    minor: MINOR,
    gitVersion: `v1.${MINOR}.0+podwire`,
    gitCommit: '',
    gitTreeState: 'clean',
    buildDate: '2026-01-01T00:00:00Z',
    goVersion: process.version,
    compiler: 'node',
    platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
  };
}

export interface PlainPathOptions {
  readonly kinds: readonly Kind[];
  readonly metrics: () => Promise<{ contentType: string; text: string }>;
  /** Paths of the non-resource kind that "/" lists besides discovery's own. */
  readonly openIdConfiguration?: () => object;
  readonly jwks?: () => object;
}

const HEALTH = /^\/(?:healthz|livez|readyz)(?:\/[a-z-]+)?$/;

export function plainPaths(options: PlainPathOptions): PlainPaths {
  return async (path, request, response) => {
    if (path === '/version' || path === '/version/') {
      await sendJson(request, response, versionInfo());
    } else if (HEALTH.test(path)) {
      const verbose = new URL(request.url ?? '/', 'http://host').searchParams.has('verbose');
      const text = verbose ? `[+]ping ok\n[+]store ok\n${path.split('/')[1]} check passed\n` : 'ok';
      await sendBytes(request, response, 200, Buffer.from(text), 'text/plain; charset=utf-8');
    } else if (path === '/') {
      const groups = new Set(options.kinds.map((kind) => (kind.group ? `/apis/${kind.group}` : '/api')));
      const paths = [
        ...groups,
        '/apis',
        '/healthz',
        '/livez',
        '/metrics',
        '/openapi/v2',
        '/openapi/v3',
        '/readyz',
        '/version',
      ];
      await sendJson(request, response, { paths: paths.sort() });
    } else if (path === '/metrics') {
      const { contentType, text } = await options.metrics();
      await sendBytes(request, response, 200, Buffer.from(text), contentType);
    } else if (path === '/openapi/v2' || path === '/openapi/v3' || path.startsWith('/openapi/v3/')) {
      const { answerOpenApi } = await import('../openapi/paths.ts');
      return answerOpenApi(options.kinds, path, request, response);
    } else if (path === '/.well-known/openid-configuration' && options.openIdConfiguration) {
      await sendJson(request, response, options.openIdConfiguration());
    } else if (path === '/openid/v1/jwks' && options.jwks) {
      await sendJson(request, response, options.jwks());
    } else return false;
    return true;
  };
}

function sendJson(request: IncomingMessage, response: ServerResponse, body: object): Promise<void> {
  return sendBytes(request, response, 200, Buffer.from(JSON.stringify(body)));
}
