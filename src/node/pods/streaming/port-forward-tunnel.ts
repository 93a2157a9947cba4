/**
 * Port-forward for kubectl 1.31 and newer (KEP-4006): an SPDY connection of its own inside the binary messages of a
 * WebSocket. The frames are the runtime's business: the payloads, joined, are the bytes of the runtime's connection.
 */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { MessageSocket } from './message-socket.ts';

/** The subprotocol: "SPDY/3.1+" and the stream protocol inside. */
export const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io';
/** X-Stream-Protocol-Version of port-forward. */
export const PORT_FORWARD_PROTOCOL = 'portforward.k8s.io';

/** Joins the two until either ends; what was received until then is delivered. */
export function tunnelPortForward(webSocket: WebSocket, runtime: Duplex): void {
  const client = new MessageSocket(webSocket, {
    message: (bytes) => {
      if (runtime.writable && !runtime.write(bytes)) client.pause();
    },
    closed: () => runtime.destroy(),
    drained: () => runtime.resume(),
  });
  runtime.on('data', (bytes: Buffer) => {
    if (!client.send(bytes)) runtime.pause();
  });
  runtime.on('drain', () => client.resume());
  runtime.on('error', () => {});
  runtime.once('close', () => client.close());
}
