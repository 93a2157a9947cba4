/**
 * Kubernetes' WebSocket subprotocols for several streams in one connection: every message is a channel number and bytes
 * (k8s.io/apimachinery/pkg/util/httpstream/wsstream and remotecommand). Pure.
 */

/** Channels of exec and attach. */
export const Channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

export interface ChannelProtocol {
  /** The name on the wire; empty: the client named none. */
  readonly name: string;
  /** Payloads are base64 in text messages, the channel an ASCII digit; otherwise binary messages. */
  readonly base64: boolean;
  /** Message [255, n] closes channel n (KEP-4006): stdin can end while output goes on. */
  readonly closes: boolean;
  /** The error channel carries a Status object; before v4, a text and only in case of failure. */
  readonly statusErrors: boolean;
}

const protocol = (name: string, flags: Partial<Omit<ChannelProtocol, 'name'>>): ChannelProtocol => ({
  name,
  base64: false,
  closes: false,
  statusErrors: false,
  ...flags,
});

/** Best first. */
const protocols: readonly ChannelProtocol[] = [
  protocol('v5.channel.k8s.io', { closes: true, statusErrors: true }),
  protocol('v4.channel.k8s.io', { statusErrors: true }),
  protocol('v4.base64.channel.k8s.io', { base64: true, statusErrors: true }),
  protocol('channel.k8s.io', {}),
  protocol('base64.channel.k8s.io', { base64: true }),
  protocol('', {}),
];

/** The subprotocols of a Sec-WebSocket-Protocol header. */
export function offeredProtocols(header: string | undefined): string[] {
  return (header ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
}

/** The best protocol that the client offers (none offered: the first, binary one); undefined when there is none in common. */
export function chooseProtocol(offered: readonly string[], known = protocols): ChannelProtocol | undefined {
  if (offered.length === 0) return known.find(({ name }) => name === '');
  return known.find(({ name }) => name !== '' && offered.includes(name));
}

/** The protocols of the old port-forward over WebSocket. */
export const portForwardProtocols: readonly ChannelProtocol[] = protocols.filter(
  ({ name }) => name === '' || name.startsWith('v4.'),
);

export interface ChannelMessage {
  readonly channel: number;
  readonly bytes: Buffer;
}

/** Decodes a message; undefined for an empty one, which has no channel. */
export function decodeMessage({ base64 }: ChannelProtocol, message: Buffer): ChannelMessage | undefined {
  if (message.length === 0) return undefined;
  if (!base64) return { channel: message[0]!, bytes: message.subarray(1) };
  return { channel: message[0]! - 0x30, bytes: Buffer.from(message.toString('latin1', 1), 'base64') };
}

/** Encodes a message: a string for a text message, a Buffer for a binary one. */
export function encodeMessage({ base64 }: ChannelProtocol, channel: number, bytes: Buffer): Buffer | string {
  return base64 ? `${channel}${bytes.toString('base64')}` : Buffer.concat([Buffer.of(channel), bytes]);
}

/** What the error channel of the protocol says for the runtime's Status JSON; undefined: nothing, it succeeded. */
export function errorChannelText({ statusErrors }: ChannelProtocol, statusJson: string): string | undefined {
  if (statusErrors) return statusJson;
  try {
    const status = JSON.parse(statusJson) as { status?: string; message?: string };
    return status.status === 'Success' ? undefined : (status.message ?? statusJson);
  } catch {
    return statusJson;
  }
}
