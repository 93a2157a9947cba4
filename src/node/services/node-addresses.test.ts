import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { IpAddress } from '../../base/ip.ts';
import { isLocalhostOnly, parseNodePortChoices } from '../../base/node-port-choice.ts';
import { chooseNodeAddresses, needsInterfaces } from './node-addresses.ts';

const PRIMARY = ['192.0.2.1', '2001:db8::1'] as IpAddress[];
const INTERFACES = [
  ...PRIMARY,
  '127.0.0.1',
  '127.0.0.53',
  '::1',
  '169.254.1.1',
  'fe80::1',
  '198.51.100.7',
  '2001:db8:5::7',
] as IpAddress[];

const choose = (...texts: string[]) =>
  chooseNodeAddresses(parseNodePortChoices(texts), {
    primary: PRIMARY,
    interfaces: INTERFACES,
    servesLocalhost: true,
  });

it('NodePorts are served where the option says', () => {
  const cases: [string[], string[]][] = [
    [['primary'], ['192.0.2.1', '2001:db8::1']],
    [
      ['primary', 'localhost'],
      ['127.0.0.1', '192.0.2.1', '2001:db8::1'],
    ],
    [['all'], ['127.0.0.1', '192.0.2.1', '198.51.100.7', '2001:db8:5::7', '2001:db8::1']],
    [['198.51.100.0/24'], ['198.51.100.7']],
    [['0.0.0.0/0'], ['127.0.0.1', '192.0.2.1', '198.51.100.7']],
    [
      ['2001:db8:5::/64', '127.0.0.0/8'],
      ['127.0.0.1', '2001:db8:5::7'],
    ],
    [['203.0.113.0/24'], []],
  ];
  for (const [texts, addresses] of cases) assert.deepEqual(choose(...texts), addresses, texts.join(' '));
});

it('127.0.0.1 is never among them where it is not served', () => {
  for (const text of ['localhost', 'all', '0.0.0.0/0', '127.0.0.1/32']) {
    const places = { primary: PRIMARY, interfaces: INTERFACES, servesLocalhost: false };
    const chosen = parseNodePortChoices([text]);
    assert.deepEqual(
      chooseNodeAddresses(chosen, places),
      choose(text).filter((address) => address !== '127.0.0.1'),
    );
    assert.equal(isLocalhostOnly(chosen[0]!), text === 'localhost' || text === '127.0.0.1/32');
  }
});

it('what is no choice is refused, and interfaces are asked only where they matter', () => {
  for (const text of ['', 'Primary', '192.0.2.1', '192.0.2.0/33', 'none'])
    assert.throws(() => parseNodePortChoices([text]), /not primary, localhost, all or a CIDR/);
  assert.equal(needsInterfaces(parseNodePortChoices(['primary', 'localhost'])), false);
  assert.equal(needsInterfaces(parseNodePortChoices(['primary', '10.0.0.0/8'])), true);
});
