/** Generic netlink: families have names, and numbers that the kernel gives them (linux/genetlink.h). */
import { ERRNO, KernelError } from '../errors.ts';
import { Attributes } from './reader.ts';
import type { NetlinkSocket } from './socket.ts';
import { MessageWriter } from './writer.ts';

const GENL_ID_CTRL = 0x10;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { familyId: 1, familyName: 2 } as const;
/** sizeof(struct genlmsghdr). */
const GENERIC_SIZE = 4;

/** The number of a family; the kernel loads its module where it can. Throws with ENOENT when there is none. */
export function genericFamilyId(socket: NetlinkSocket, name: string): number {
  const operation = `find netlink family ${name}`;
  const writer = new MessageWriter().message(GENL_ID_CTRL).u8(CTRL_CMD_GETFAMILY).u8(1).u16(0);
  let id: number | undefined;
  socket.request(writer.attrString(CTRL_ATTR.familyName, name), operation, (message) => {
    id = new Attributes(message.payload, GENERIC_SIZE).u16(CTRL_ATTR.familyId);
  });
  if (id === undefined) throw new KernelError(operation, ERRNO['ENOENT']!);
  return id;
}
