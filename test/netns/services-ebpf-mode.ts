/** The mode ebpf as the tests with packets see it: this process is the node and its pods, clients outside are another one. */
import assert from 'node:assert/strict';
import { silentLogger } from '../../src/base/log.ts';
import type { ProgramFiles } from '../../src/node/services/ebpf/programs.ts';
import { SocketRules } from '../../src/node/services/ebpf/reconciler.ts';
import { nftablesRules } from '../../src/node/services/nftables/reconciler.ts';
import { ADDRESSES, type ServicesLab } from './services-lab.ts';
import { type ModeUnderTest, nftablesMode } from './services-modes.ts';
import { enterSocketLab } from './services-socket-lab.ts';

const prepared = new WeakMap<ServicesLab, ProgramFiles>();
const latest = new WeakMap<ServicesLab, SocketRules>();

export const ebpfMode: ModeUnderTest = {
  name: 'ebpf',
  translates: 'sockets',
  forgetsInTime: true,
  async prepare(lab) {
    prepared.set(lab, await enterSocketLab(lab));
  },
  open(lab, context = {}) {
    const options = { ...prepared.get(lab)!, packets: nftablesRules(lab.nft) };
    const rules = new SocketRules(options, { addresses: ADDRESSES, log: silentLogger, ...context });
    lab.onClose(() => rules.close());
    latest.set(lab, rules);
    return rules;
  },
  async assertFresh(lab, rules) {
    assert.ok(rules instanceof SocketRules);
    const { found, expected } = rules.listings;
    assert.deepEqual(found, expected);
    assert.ok(rules.isIntact());
    await nftablesMode.assertFresh(lab, rules.packets);
  },
  async assertEmpty(lab) {
    assert.deepEqual(latest.get(lab)?.listings.found, []);
    await nftablesMode.assertEmpty(lab);
  },
};
