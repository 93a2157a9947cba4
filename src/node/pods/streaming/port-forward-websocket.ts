/**
 * Port-forward over WebSocket as it was before SPDY tunnelling (subprotocol v4.channel.k8s.io): the ports are in the URL;
 * the i-th one has channel 2i for bytes and 2i+1 for errors, and each channel begins with the port number (two bytes,
 * little endian) from the server. One connection per port; nothing can be half-closed.
 */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { type ChannelProtocol, decodeMessage, encodeMessage } from './channel-protocol.ts';
import { MessageSocket } from './message-socket.ts';
import { SpdySession } from './spdy-session.ts';

/** Joins the client and the runtime, which speaks portforward.k8s.io over SPDY: an error and a data stream per port. */
export function bridgePortForward(
  webSocket: WebSocket,
  runtimeSocket: Duplex,
  protocol: ChannelProtocol,
  ports: readonly number[],
): void {
  const streams: number[] = [];
  const open = new Set<number>();
  const send = (channel: number, bytes: Buffer) => client.send(encodeMessage(protocol, channel, bytes));

  const runtime = new SpdySession(runtimeSocket, {
    data: (id, bytes) => {
      if (!send(streams.indexOf(id), bytes)) runtime.pause();
    },
    ended: (id) => {
      open.delete(id);
      if (open.size === 0) client.close();
    },
    closed: () => client.close(),
    drained: () => client.resume(),
  });
  const client = new MessageSocket(webSocket, {
    message: (data) => {
      const message = decodeMessage(protocol, data);
      // Odd channels are the error channels, on which a client has nothing to say.
      if (!message || message.channel % 2 !== 0) return;
      const id = streams[message.channel];
      if (id !== undefined && message.bytes.length > 0 && !runtime.write(id, message.bytes)) client.pause();
    },
    closed: () => runtime.destroy(),
    drained: () => runtime.resume(),
  });

  ports.forEach((port, requestId) => {
    for (const streamType of ['error', 'data']) {
      const id = runtime.open({ streamType, port: String(port), requestID: String(requestId) });
      streams[2 * requestId + (streamType === 'error' ? 1 : 0)] = id;
      if (streamType === 'error') runtime.end(id);
      open.add(id);
    }
    for (const channel of [2 * requestId, 2 * requestId + 1]) {
      const announcement = Buffer.alloc(2);
      announcement.writeUInt16LE(port);
      send(channel, announcement);
    }
  });
}
