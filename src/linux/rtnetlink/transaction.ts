/** Many changes with few system calls: `Rtnetlink.transaction`. */
import { isNotFound, KernelError } from '../errors.ts';
import type { NetlinkSocket } from '../netlink/socket.ts';
import { MessageWriter } from '../netlink/writer.ts';
import {
  describeOperation,
  encodeOperation,
  failureOf,
  isDeletion,
  type Operation,
  type OperationFailure,
} from './operations.ts';
import type { ResolveDevice } from './protocol.ts';

/** Bytes of a batch that go into one send: below the socket's send buffer (212,992 bytes by default). */
const BATCH_BYTES = 128 << 10;
/** Messages of a batch that go into one send: should all be refused, their answers fit the receive buffer. */
const BATCH_MESSAGES = 2000;

/**
 * Sends the operations in order and returns those that were refused; deletions of what is absent are not among them.
 * Names are those from before the transaction: one that a `setLink` in it gives is not known to the others.
 */
export function runTransaction(
  socket: NetlinkSocket,
  operations: readonly Operation[],
  resolve: ResolveDevice,
): OperationFailure[] {
  const failures: OperationFailure[] = [];
  const resolveOnce = cached(resolve);
  let writer = new MessageWriter(4096);
  let batch: Operation[] = [];
  const flush = (): void => {
    failures.push(...sendBatch(socket, writer, batch));
    writer = new MessageWriter(4096);
    batch = [];
  };
  for (const operation of operations) {
    try {
      encodeOperation(writer, operation, resolveOnce);
      batch.push(operation);
    } catch (error) {
      writer.truncate(batch.length);
      failures.push(failureOf(operation, error));
    }
    if (writer.length >= BATCH_BYTES || batch.length >= BATCH_MESSAGES) flush();
  }
  flush();
  return failures.filter(({ operation, error }) => !(isDeletion(operation) && isNotFound(error)));
}

function sendBatch(socket: NetlinkSocket, writer: MessageWriter, batch: readonly Operation[]): OperationFailure[] {
  return socket.batch(writer, 'send a batch of changes').map(({ index, errno, message }) => {
    const operation = batch[index]!;
    return { operation, error: new KernelError(describeOperation(operation), errno, message) };
  });
}

/** Looks each name up once. */
function cached(resolve: ResolveDevice): ResolveDevice {
  const known = new Map<string, number>();
  return (device) => {
    if (typeof device === 'number') return device;
    const ifindex = known.get(device) ?? resolve(device);
    known.set(device, ifindex);
    return ifindex;
  };
}
