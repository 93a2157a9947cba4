/**
 * The beat by which announcing nodes know each other alive: one small frame to all on the same wire that ARP and NDP use, so
 * what cuts a node off from its clients cuts its beats off too. Pods cannot send one: they are routed, not bridged.
 *
 *     Ethernet  03:70:6f:64:77:69 (multicast, locally administered)  <node's MAC>  0x88b5 (IEEE 802 local experimental)
 *     u8 version = 1 | u8 flags (1: answers for addresses) | 8 bytes cluster | u8 length | node name
 */
import { createHash } from 'node:crypto';
import { HEADER_BYTES, readMac, writeHeader } from './ethernet.ts';

export const BEAT_PROTOCOL = 0x88b5;
export const BEAT_MAC = '03:70:6f:64:77:69';
const VERSION = 1;
const FLAG_ACTIVE = 1;
const CLUSTER_BYTES = 8;
const NAME_AT = HEADER_BYTES + 2 + CLUSTER_BYTES + 1;

export interface Beat {
  /** From `clusterTag`: two clusters may share a wire. */
  readonly cluster: string;
  readonly node: string;
  /** False: from now on this node's agent answers for nothing. */
  readonly active: boolean;
}

/** A beat as it arrives. */
export interface HeardBeat extends Beat {
  /** The MAC that it came from. */
  readonly mac: string;
}

/** A short name of a cluster, from something that only its nodes share (the uid of the namespace kube-system). */
export function clusterTag(uid: string): string {
  return createHash('sha256')
    .update(uid)
    .digest('hex')
    .slice(0, 2 * CLUSTER_BYTES);
}

/** The node's name has at most 253 characters (a DNS subdomain). */
export function encodeBeat({ cluster, node, active }: Beat, mac: string): Buffer {
  const name = Buffer.from(node);
  const frame = Buffer.alloc(Math.max(60, NAME_AT + name.length));
  writeHeader(frame, BEAT_MAC, mac, BEAT_PROTOCOL);
  frame.writeUInt8(VERSION, HEADER_BYTES);
  frame.writeUInt8(active ? FLAG_ACTIVE : 0, HEADER_BYTES + 1);
  frame.write(cluster, HEADER_BYTES + 2, 'hex');
  frame.writeUInt8(name.length, NAME_AT - 1);
  frame.set(name, NAME_AT);
  return frame;
}

/** Undefined for what is no beat of this version. */
export function decodeBeat(frame: Buffer): HeardBeat | undefined {
  if (frame.length < NAME_AT || frame.readUInt8(HEADER_BYTES) !== VERSION) return undefined;
  const length = frame.readUInt8(NAME_AT - 1);
  if (length === 0 || frame.length < NAME_AT + length) return undefined;
  return {
    cluster: frame.toString('hex', HEADER_BYTES + 2, HEADER_BYTES + 2 + CLUSTER_BYTES),
    node: frame.toString('utf8', NAME_AT, NAME_AT + length),
    mac: readMac(frame, 6),
    active: (frame.readUInt8(HEADER_BYTES + 1) & FLAG_ACTIVE) !== 0,
  };
}
