/** What podwire's Service rules ask of nft, asked of the kernel and of the stand-in: both must do and refuse the same. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCidr } from '../../src/base/ip.ts';
import { hasCode } from '../../src/linux/errors.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import type { ElementChange } from '../../src/linux/set-elements.ts';
import { renderChain, renderTable } from '../../src/node/services/nftables/chains.ts';
import { FakeNft } from '../../src/node/services/nftables/fake-nft.ts';
import { kernelListing } from '../../src/node/services/nftables/listing.ts';
import type { ReconcilerOptions } from '../../src/node/services/nftables/reconciler.ts';
import { ELEMENT_MAPS, type ElementMap, layoutOf, tableOf } from '../../src/node/services/nftables/schema.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();
const ADDRESSES = {
  podCidrs: ['10.244.0.0/16', 'fd00::/56'].map(parseCidr),
  ownPodCidrs: [parseCidr('10.244.0.0/24')],
  serviceCidrs: [parseCidr('10.96.0.0/16')],
};

interface Subject {
  readonly nft: ReconcilerOptions['nft'];
  listing(family: 4 | 6): readonly string[];
}

function kernel(): Subject {
  const nft = Nftables.open(make(`contract-${Math.random().toString(36).slice(2)}`));
  return { nft, listing: (family) => kernelListing(nft, family) };
}
function fake(): Subject {
  const nft = new FakeNft();
  return { nft, listing: (family) => nft.listing(tableOf(family), ELEMENT_MAPS) };
}

const add = (family: 4 | 6, map: ElementMap, ...elements: string[]): ElementChange => ({
  op: 'add',
  set: layoutOf(family, map),
  elements,
});
const remove = (family: 4 | 6, map: ElementMap, ...elements: string[]): ElementChange => ({
  ...add(family, map, ...elements),
  op: 'delete',
});

for (const [name, open] of [
  ['the kernel', kernel],
  ['the stand-in', fake],
] as const) {
  describe(`Service tables in ${name}`, { skip: name === 'the kernel' ? skip : false }, () => {
    const tables = () => {
      const subject = open();
      subject.nft.run(renderTable(4, ADDRESSES) + renderTable(6, ADDRESSES));
      return { ...subject, commit: subject.nft.elements.commit.bind(subject.nft.elements) };
    };

    it('take elements of every map and set, and give them back', () => {
      const { commit, listing } = tables();
      const frontend = { 4: '10.96.0.1 . tcp . 80', 6: 'fd00::1 . udp . 53' } as const;
      const endpoint = { 4: '10.244.0.2 . 8080', 6: 'fd00::a:2 . 5353' } as const;
      for (const family of [4, 6] as const) {
        const address = endpoint[family].split(' ')[0]!;
        const values: Readonly<Record<ElementMap, string>> = {
          endpoints: `${frontend[family]} . 8388608 : ${endpoint[family]}`,
          'affinity-endpoints': `${frontend[family]} . 3000000000 : ${endpoint[family]}`,
          'affinity-picks': `${frontend[family]} . 0 : 3000000000`,
          'affinity-counts': `${frontend[family]} : 3`,
          'affinity-local-counts': `${frontend[family]} : 1`,
          'firewall-allowed': `${frontend[family]} . ${family === 4 ? '198.51.100.0/24' : '2001:db8::/33'}`,
          hairpin: `${address} . ${address}`,
          'service-addresses': address,
          services: `${frontend[family]} : 1073741826`,
          'outside-services': `${frontend[family]} : 1048577`,
        };
        commit(ELEMENT_MAPS.map((map) => add(family, map, values[map])));
        assert.deepEqual(listing(family), ELEMENT_MAPS.map((map) => `${map} ${values[map]}`).sort());
        commit(ELEMENT_MAPS.map((map) => remove(family, map, values[map])));
        assert.deepEqual(listing(family), []);
      }
    });

    it('take what is there already, and replace an element that is deleted first', () => {
      const { commit, listing } = tables();
      commit([add(4, 'services', '10.96.0.1 . tcp . 80 : 1')]);
      commit([add(4, 'services', '10.96.0.1 . tcp . 80 : 1')]);
      commit([remove(4, 'services', '10.96.0.1 . tcp . 80'), add(4, 'services', '10.96.0.1 . tcp . 80 : 2')]);
      assert.deepEqual(listing(4), ['services 10.96.0.1 . tcp . 80 : 2']);
      commit([{ ...remove(4, 'services'), elements: 'all' }, add(4, 'services', '10.96.0.2 . tcp . 80 : 2')]);
      assert.deepEqual(listing(4), ['services 10.96.0.2 . tcp . 80 : 2']);
    });

    it('refuse as a whole what cannot be', () => {
      const { nft, commit, listing } = tables();
      commit([add(4, 'services', '10.96.0.1 . tcp . 80 : 1')]);
      const before = listing(4);
      const good = add(4, 'services', '10.96.0.7 . tcp . 80 : 1');
      const refused: [string, ElementChange][] = [
        ['ENOENT', remove(4, 'services', '10.96.0.2 . tcp . 80')],
        ['EEXIST', add(4, 'services', '10.96.0.1 . tcp . 80 : 3')],
        ['ENOENT', { op: 'add', set: layoutOf(4, 'dispatch'), elements: ['7 : goto random-7'] }],
        [
          'ENOENT',
          { op: 'add', set: { ...layoutOf(4, 'services'), name: 'x' }, elements: ['10.96.0.1 . tcp . 80 : 1'] },
        ],
        ['EINVAL', { op: 'add', set: { ...layoutOf(4, 'services'), key: ['ipv4_addr'] }, elements: ['10.96.0.1 : 1'] }],
      ];
      for (const [code, change] of refused)
        assert.throws(
          () => commit([good, change]),
          (error) => hasCode(error, code),
        );
      assert.throws(() => commit([good, add(4, 'services', '10.96.0.1 . tcp : 1')]), TypeError);
      assert.throws(() => nft.run(`flush chain ${tableOf(4)} absent\n`));
      assert.throws(() => nft.run(`add table ${tableOf(4)}\nadd rule ${tableOf(4)} absent drop\n`));
      assert.deepEqual(listing(4), before);
    });

    it('lead to a chain once it is there, also when it is made anew', () => {
      const { nft, commit } = tables();
      const chain = {
        name: 'random-7',
        rules: ['drop'],
        map: 'dispatch',
        element: '0x7 : goto random-7',
        needs: [],
      } as const;
      for (let i = 0; i < 2; i++) {
        nft.run(renderChain(4, chain));
        commit([{ op: 'add', set: layoutOf(4, 'dispatch'), elements: [chain.element] }]);
      }
      assert.match(nft.list(`map ${tableOf(4)} dispatch`), /goto random-7/);
    });
  });
}
