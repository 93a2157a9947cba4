/**
 * healthCheckNodePort: a load balancer asks each node whether it has endpoints of a Service with externalTrafficPolicy
 * Local. Answers as kube-proxy does (pkg/proxy/healthcheck): 200 with endpoints here, 503 without, the count in the body
 * and in a header for weighted balancing.
 */
import { createServer, type Server } from 'node:http';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { ServiceModel } from './model.ts';

/** Begins to listen on a port of the node; the agent's process is inside the node's namespace, tests pass their own. */
export type Listen = (server: Server, port: number) => void;

interface Listener {
  readonly server: Server;
  service: string;
  localEndpoints: number;
}

export interface HealthCheckOptions {
  readonly log: Logger;
  /** Default: all addresses of the process's namespace, both families. */
  readonly listen?: Listen;
}

export class HealthChecks {
  readonly #options: HealthCheckOptions;
  readonly #listeners = new Map<number, Listener>();
  /** The port that a Service has, by its key. */
  readonly #ports = new Map<string, number>();

  constructor(options: HealthCheckOptions) {
    this.#options = options;
  }

  /** Opens, updates or closes the port of one Service. */
  update(key: string, health: ServiceModel['health']): void {
    const before = this.#ports.get(key);
    if (before !== undefined && before !== health?.port) this.#close(key, before);
    if (!health) return;
    const known = this.#listeners.get(health.port);
    if (known) {
      if (known.service === key) known.localEndpoints = health.localEndpoints;
      else this.#options.log.warn({ service: key, port: health.port }, `health check port belongs to ${known.service}`);
      return;
    }
    this.#ports.set(key, health.port);
    this.#listeners.set(health.port, this.#open(key, health.port, health.localEndpoints));
  }

  #open(service: string, port: number, localEndpoints: number): Listener {
    const server = createServer((_request, response) => {
      const { localEndpoints: count } = listener;
      const [namespace, name] = listener.service.split('/');
      response.writeHead(count > 0 ? 200 : 503, {
        'content-type': 'application/json',
        'x-content-type-options': 'nosniff',
        'x-load-balancing-endpoint-weight': String(count),
      });
      response.end(JSON.stringify({ service: { namespace, name }, localEndpoints: count, serviceProxyHealthy: true }));
    });
    const listener: Listener = { server, service, localEndpoints };
    server.on('error', (error) =>
      this.#options.log.warn({ service, port, error }, `health check port ${port}: ${messageOf(error)}`),
    );
    try {
      (this.#options.listen ?? ((each, at) => each.listen(at)))(server, port);
    } catch (error) {
      this.#options.log.warn({ service, port, error }, `health check port ${port}: ${messageOf(error)}`);
    }
    return listener;
  }

  #close(key: string, port: number): void {
    this.#ports.delete(key);
    const listener = this.#listeners.get(port);
    this.#listeners.delete(port);
    listener?.server.close();
    listener?.server.closeAllConnections();
  }

  stop(): void {
    for (const [key, port] of [...this.#ports]) this.#close(key, port);
  }
}
