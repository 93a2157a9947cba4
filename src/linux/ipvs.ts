/** IPVS of one network namespace: virtual services and the real servers behind them. Everything is synchronous. */

import { KernelError } from './errors.ts';
import {
  decodeDestination,
  decodeService,
  encodeDestination,
  encodeDestinationDump,
  encodeFlush,
  encodeService,
  encodeServiceDeletion,
  encodeServiceDump,
  IPVS_FAMILY,
  type RealServer,
  type RealServerState,
  serviceKeyText,
  type VirtualService,
  type VirtualServiceKey,
} from './ipvs/codec.ts';
import { genericFamilyId } from './netlink/generic.ts';
import { NETLINK_GENERIC, NetlinkSocket } from './netlink/socket.ts';
import { MessageWriter } from './netlink/writer.ts';
import type { NetworkNamespace } from './netns.ts';

export type { RealServer, RealServerState, VirtualService, VirtualServiceKey } from './ipvs/codec.ts';
export { serviceKeyText } from './ipvs/codec.ts';

/** One step of a change. */
export type IpvsOperation =
  | { readonly op: 'newService' | 'setService'; readonly service: VirtualService }
  | { readonly op: 'deleteService'; readonly service: VirtualServiceKey }
  | {
      readonly op: 'newDestination' | 'setDestination' | 'deleteDestination';
      readonly service: VirtualServiceKey;
      readonly server: RealServer;
    };

export class Ipvs implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #familyId: number;

  private constructor(socket: NetlinkSocket, familyId: number) {
    this.#socket = socket;
    this.#familyId = familyId;
  }

  /** Throws with ENOENT where the kernel has no IPVS. */
  static open(ns?: NetworkNamespace): Ipvs {
    const socket = NetlinkSocket.open(NETLINK_GENERIC, ns);
    try {
      return new Ipvs(socket, genericFamilyId(socket, IPVS_FAMILY));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  services(): VirtualService[] {
    const request = () => {
      const writer = new MessageWriter();
      encodeServiceDump(writer, this.#familyId);
      return writer;
    };
    return this.#socket.dump(request, 'list IPVS services', decodeService);
  }

  servers(key: VirtualServiceKey): RealServerState[] {
    const request = () => {
      const writer = new MessageWriter();
      encodeDestinationDump(writer, this.#familyId, key);
      return writer;
    };
    return this.#socket.dump(request, `list servers of ${serviceKeyText(key)}`, (message) =>
      decodeDestination(message, key.family),
    );
  }

  /** All operations in their order and in one send. Throws a KernelError for the first that the kernel refuses; the rest is done. */
  change(operations: readonly IpvsOperation[]): void {
    if (operations.length === 0) return;
    const writer = new MessageWriter(operations.length * 128);
    for (const each of operations) this.#encode(writer, each);
    const [failure] = this.#socket.batch(writer, 'change IPVS services');
    if (!failure) return;
    const { op, service } = operations[failure.index]!;
    throw new KernelError(`${op} ${serviceKeyText(service)}`, failure.errno, failure.message);
  }

  #encode(writer: MessageWriter, operation: IpvsOperation): void {
    const { op, service } = operation;
    switch (op) {
      case 'newService':
      case 'setService':
        return encodeService(writer, this.#familyId, op, operation.service);
      case 'deleteService':
        return encodeServiceDeletion(writer, this.#familyId, service);
      default:
        return encodeDestination(writer, this.#familyId, op, service, operation.server);
    }
  }

  /** Deletes everything. */
  flush(): void {
    const writer = new MessageWriter();
    encodeFlush(writer, this.#familyId);
    this.#socket.request(writer, 'flush IPVS');
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
