/** What the tables hold, as sorted lines: from the kernel, and from what frontends ask for. For tests; never part of a sync. */
import { frontendKey } from '../model.ts';
import { hasMembers, type SocketFrontend } from './render.ts';
import { decodeServiceKey, Kind, type KindName, MAPS, readTarget } from './schema.ts';
import type { TableMemory } from './tables.ts';

/** The lines that frontends stand for. */
export function expectedListing(frontends: Iterable<SocketFrontend>): readonly string[] {
  return [...frontends]
    .flatMap((frontend) => {
      const key = frontendKey(frontend.at);
      const members = hasMembers(frontend) ? frontend.endpoints.map((text) => `member ${key} ${text}`) : [];
      return [lineOf(key, frontend.kind, frontend.affinitySeconds, frontend.endpoints), ...members];
    })
    .sort();
}

function lineOf(key: string, kind: KindName, affinity: number, endpoints: readonly string[]): string {
  return `${key} : ${kind} ${affinity} s [${[...endpoints].sort().join(', ')}]`;
}

/** The lines of tables as programs find them. Throws where something leads nowhere. */
export function tableListing(memory: TableMemory): readonly string[] {
  const frontends = Buffer.from(memory.frontends);
  const lines: string[] = [];
  const keys = new Map<number, string>();
  for (const family of [4, 6] as const) {
    for (const [bytes, value] of memory[`services${family}`].entries()) {
      const key = frontendKey(decodeServiceKey(bytes));
      const number = value.readUInt32LE();
      const at = number * MAPS.frontends.valueSize;
      const own = readTarget(frontends, at + 8);
      if (!key.startsWith(`${own.address} . `) || !key.endsWith(` . ${own.port}`))
        throw new Error(`${key} leads to the frontend of ${own.address} . ${own.port}`);
      if (keys.has(number)) throw new Error(`${key} has the number of ${keys.get(number)}`);
      keys.set(number, key);
      const head = frontends.readBigUInt64LE(at);
      const kind = (Object.keys(Kind) as KindName[]).find((name) => BigInt(Kind[name]) === ((head >> 20n) & 0xfn))!;
      const first = Number(head >> 32n);
      const endpoints = Array.from({ length: Number(head & 0xfffffn) }, (_, i) => endpointAt(memory, first + i));
      lines.push(lineOf(key, kind, frontends.readUInt32LE(at + 28), endpoints));
    }
  }
  for (const [bytes] of memory.members.entries()) {
    const { address, port } = readTarget(bytes, 4);
    lines.push(`member ${keys.get(bytes.readUInt32LE()) ?? 'of nobody'} ${address} . ${port}`);
  }
  return lines.sort();
}

function endpointAt(memory: TableMemory, slot: number): string {
  const number = Number(Buffer.from(memory.slots).readBigUInt64LE(slot * MAPS.slots.valueSize));
  const { address, port } = readTarget(Buffer.from(memory.endpoints), number * MAPS.endpoints.valueSize);
  return `${address} . ${port}`;
}
