/**
 * Transmit checksum offload of a link. A veth or VXLAN device hands packets on with their checksum unfinished; where
 * the next stage does not finish it (some drivers, some tunnels), connections stall for a minute. Turning the offload
 * off makes the kernel compute the checksum itself.
 *
 * By the SIOCETHTOOL ioctl (linux/ethtool.h), which knows all transmit checksum features under one switch.
 */
import { AF_INET, addressOf, check, libc, SOCK_CLOEXEC, SOCK_DGRAM } from './libc.ts';
import { type NetworkNamespace, runIn } from './netns.ts';

const SIOCETHTOOL = 0x8946;
const ETHTOOL_GTXCSUM = 0x16;
const ETHTOOL_STXCSUM = 0x17;
/** sizeof(struct ifreq) on 64-bit machines; the pointer to the command is at 16. */
const IFREQ_SIZE = 40;
const IFREQ_DATA = 16;

export type Switch = 'on' | 'off';

/** Whether the link leaves transmit checksums to a later stage. */
export function txChecksumOffload(ns: NetworkNamespace | undefined, device: string): Switch {
  return ethtool(ns, device, `get transmit checksum offload of ${device}`, ETHTOOL_GTXCSUM, 0) === 0 ? 'off' : 'on';
}

/** Throws EOPNOTSUPP for links that cannot change it, ENODEV when there is no such link. */
export function setTxChecksumOffload(ns: NetworkNamespace | undefined, device: string, value: Switch): void {
  ethtool(ns, device, `turn ${value} transmit checksum offload of ${device}`, ETHTOOL_STXCSUM, value === 'on' ? 1 : 0);
}

/** Runs one command on a struct ethtool_value and returns its value. */
function ethtool(
  ns: NetworkNamespace | undefined,
  device: string,
  operation: string,
  command: number,
  value: number,
): number {
  if (Buffer.byteLength(device) > 15) throw new TypeError(`an interface name has 1 to 15 bytes: ${device}`);
  const argument = Buffer.alloc(8);
  argument.writeUInt32LE(command, 0);
  argument.writeUInt32LE(value, 4);
  const request = Buffer.alloc(IFREQ_SIZE);
  request.write(device);
  request.writeBigUInt64LE(addressOf(argument), IFREQ_DATA);
  const fd = runIn(ns, () => check(operation, libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  try {
    check(operation, libc.ioctl(fd, SIOCETHTOOL, request));
  } finally {
    libc.close(fd);
  }
  return argument.readUInt32LE(4);
}
