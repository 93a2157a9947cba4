/** Ethernet II headers: where every frame begins. Pure. */

export const HEADER_BYTES = 14;
export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';

/** The header: receiver, sender, protocol (linux/if_ether.h). */
export function writeHeader(frame: Buffer, to: string, from: string, protocol: number): void {
  writeMac(frame, 0, to);
  writeMac(frame, 6, from);
  frame.writeUInt16BE(protocol, 12);
}

export function writeMac(frame: Buffer, offset: number, mac: string): void {
  for (let i = 0; i < 6; i++) frame.writeUInt8(Number.parseInt(mac.slice(3 * i, 3 * i + 2), 16), offset + i);
}

export function readMac(frame: Buffer, offset: number): string {
  return frame.toString('hex', offset, offset + 6).replace(/..(?=.)/g, '$&:');
}
