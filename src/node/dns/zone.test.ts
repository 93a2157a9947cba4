/** Every record of DNS-based service discovery 1.1.0, and what is not there. Names are asked as "name TYPE". */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCidr } from '../../base/ip.ts';
import { pod, service, slice, sourceOver } from './fixtures.ts';
import { type Answer, Rcode, type ResourceRecord, Type } from './wire.ts';
import { Zone } from './zone.ts';

const http = { name: 'http', protocol: 'TCP', port: 80 };
const metrics = { name: 'metrics', protocol: 'TCP', port: 9100 };

const zone = new Zone({
  domain: 'cluster.local',
  dnsAddresses: ['10.96.0.10', 'fd00:10:96::a'],
  reverseCidrs: ['10.244.0.0/16', '10.96.0.0/12', 'fd00:10:244::/56', 'fd00:10:96::/112'].map(parseCidr),
  source: sourceOver({
    namespaces: ['default', 'other', 'empty'],
    services: [
      service('default/web', {
        clusterIP: '10.96.0.1',
        clusterIPs: ['10.96.0.1', 'fd00:10:96::1'],
        ports: [http, { name: 'dns', protocol: 'UDP', port: 53 }, { name: 'dns-tcp', protocol: 'TCP', port: 53 }],
      }),
      service('other/single', { clusterIP: '10.96.0.2', ports: [{ port: 8080 }] }),
      service('default/portless', { clusterIP: '10.96.0.3' }),
      service('default/db', { clusterIP: 'None', ports: [http, metrics] }),
      service('default/nobody', { clusterIP: 'None', ports: [http] }),
      service('default/unready', { clusterIP: 'None', ports: [http] }),
      service('default/eager', { clusterIP: 'None', ports: [http], publishNotReadyAddresses: true }),
      service('default/v6', { clusterIP: 'None', ports: [http] }),
      service('default/manual', { clusterIP: 'None', ports: [http] }),
      service('default/outside', { type: 'ExternalName', externalName: 'Www.Example.COM.' }),
      service('default/alias', { type: 'ExternalName', externalName: 'web.default.svc.cluster.local' }),
      service('default/alias2', { type: 'ExternalName', externalName: 'alias.default.svc.cluster.local' }),
      service('default/alias3', { type: 'ExternalName', externalName: 'outside.default.svc.cluster.local' }),
      service('default/dangling', { type: 'ExternalName', externalName: 'gone.default.svc.cluster.local' }),
      service('default/circle', { type: 'ExternalName', externalName: 'circle.default.svc.cluster.local' }),
      service('default/digits', { type: 'ExternalName', externalName: '192.0.2.1' }),
      service('default/nonsense', { type: 'ExternalName', externalName: 'a..b' }),
    ],
    slices: [
      slice('default/web', { endpoints: [{ addresses: ['10.244.1.2'] }], ports: [http] }),
      slice('default/db', {
        endpoints: [
          { addresses: ['10.244.1.5'], hostname: 'db-0' },
          { addresses: ['10.244.1.6'] },
          { addresses: ['10.244.1.7'], conditions: { ready: false } },
        ],
        ports: [http, metrics],
      }),
      slice('default/db', {
        name: 'db-v6',
        addressType: 'IPv6',
        endpoints: [{ addresses: ['fd00:10:244::5'], hostname: 'db-0' }],
        ports: [http, metrics],
      }),
      slice('default/db', { name: 'db-again', endpoints: [{ addresses: ['10.244.1.5'] }], ports: [http] }),
      slice('default/unready', {
        endpoints: [{ addresses: ['10.244.1.8'], conditions: { ready: false } }],
        ports: [http],
      }),
      slice('default/eager', {
        endpoints: [{ addresses: ['10.244.1.9'], conditions: { ready: true, serving: false } }],
        ports: [http],
      }),
      slice('default/v6', { addressType: 'IPv6', endpoints: [{ addresses: ['fd00:10:244::7'] }], ports: [http] }),
      slice('default/manual', { endpoints: [{ addresses: ['192.0.2.7'], hostname: 'far' }], ports: [http] }),
    ],
    pods: [pod('default/web-1', ['10.244.1.2', 'fd00:10:244::2']), pod('other/done', ['10.244.1.3'], 'Succeeded')],
  }),
});

function ask(question: string): Answer & { continuesAt?: string } {
  const [name, type] = question.split(' ') as [string, keyof typeof Type];
  const answer = zone.resolve(name, Type[type]);
  assert.ok(answer, `${name} is not ours`);
  return answer;
}

/** A record without its owner where that is the name asked for. */
function show(record: ResourceRecord, name: string): string {
  const owner = record.name === name ? '' : `${record.name} `;
  switch (record.type) {
    case 'A':
    case 'AAAA':
      return `${owner}${record.type} ${record.address}`;
    case 'SRV':
      return `${owner}SRV ${record.priority} ${record.weight} ${record.port} ${record.target}`;
    case 'TXT':
      return `${owner}TXT ${record.text}`;
    case 'SOA':
      return `${owner}SOA ${record.primary} ${record.mailbox} ${record.minimum}`;
    default:
      return `${owner}${record.type} ${record.target}`;
  }
}

const svc = (name: string) => `${name}.default.svc.cluster.local`;

const answered: Record<string, readonly string[]> = {
  // 2.2 the schema's version
  'dns-version.cluster.local TXT': ['TXT 1.1.0'],
  // 2.3 Services with cluster addresses
  [`${svc('web')} A`]: ['A 10.96.0.1'],
  [`${svc('web')} AAAA`]: ['AAAA fd00:10:96::1'],
  [`${svc('web')} ANY`]: [
    'A 10.96.0.1',
    'AAAA fd00:10:96::1',
    `SRV 0 100 80 ${svc('web')}`,
    `SRV 0 100 53 ${svc('web')}`,
  ],
  [`${svc('web')} SRV`]: [`SRV 0 100 80 ${svc('web')}`, `SRV 0 100 53 ${svc('web')}`],
  [`_http._tcp.${svc('web')} SRV`]: [`SRV 0 100 80 ${svc('web')}`],
  [`_dns._udp.${svc('web')} SRV`]: [`SRV 0 100 53 ${svc('web')}`],
  'single.other.svc.cluster.local A': ['A 10.96.0.2'],
  'single.other.svc.cluster.local SRV': ['SRV 0 100 8080 single.other.svc.cluster.local'],
  '1.0.96.10.in-addr.arpa PTR': [`PTR ${svc('web')}`],
  '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa PTR': [`PTR ${svc('web')}`],
  // names of endpoints behind a cluster address, as Kubernetes documents them
  [`10-244-1-2.${svc('web')} A`]: ['A 10.244.1.2'],
  '2.1.244.10.in-addr.arpa PTR': [`PTR 10-244-1-2.${svc('web')}`],
  // 2.4 headless Services
  [`${svc('db')} A`]: ['A 10.244.1.5', 'A 10.244.1.6'],
  [`${svc('db')} AAAA`]: ['AAAA fd00:10:244::5'],
  [`db-0.${svc('db')} A`]: ['A 10.244.1.5'],
  [`db-0.${svc('db')} AAAA`]: ['AAAA fd00:10:244::5'],
  [`10-244-1-6.${svc('db')} A`]: ['A 10.244.1.6'],
  [`10-244-1-5.${svc('db')} A`]: ['A 10.244.1.5'],
  [`_http._tcp.${svc('db')} SRV`]: [`SRV 0 100 80 db-0.${svc('db')}`, `SRV 0 100 80 10-244-1-6.${svc('db')}`],
  [`_metrics._tcp.${svc('db')} SRV`]: [`SRV 0 100 9100 db-0.${svc('db')}`, `SRV 0 100 9100 10-244-1-6.${svc('db')}`],
  '5.1.244.10.in-addr.arpa PTR': [`PTR db-0.${svc('db')}`],
  '6.1.244.10.in-addr.arpa PTR': [`PTR 10-244-1-6.${svc('db')}`],
  '5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa PTR': [`PTR db-0.${svc('db')}`],
  [`${svc('eager')} A`]: ['A 10.244.1.9'],
  [`fd00-10-244--7.${svc('v6')} AAAA`]: ['AAAA fd00:10:244::7'],
  '7.2.0.192.in-addr.arpa PTR': [`PTR far.${svc('manual')}`],
  // 2.5 ExternalName
  [`${svc('outside')} CNAME`]: ['CNAME www.example.com'],
  [`${svc('outside')} A`]: ['CNAME www.example.com'],
  [`${svc('alias')} A`]: [`CNAME ${svc('web')}`, `${svc('web')} A 10.96.0.1`],
  [`${svc('alias2')} AAAA`]: [
    `CNAME ${svc('alias')}`,
    `${svc('alias')} CNAME ${svc('web')}`,
    `${svc('web')} AAAA fd00:10:96::1`,
  ],
  [`${svc('alias3')} A`]: [`CNAME ${svc('outside')}`, `${svc('outside')} CNAME www.example.com`],
  // 2.6 pods
  '10-244-1-2.default.pod.cluster.local A': ['A 10.244.1.2'],
  'fd00-10-244--2.default.pod.cluster.local AAAA': ['AAAA fd00:10:244::2'],
  // the zones themselves
  'cluster.local SOA': ['SOA ns.dns.cluster.local hostmaster.cluster.local 5'],
  'cluster.local NS': ['NS ns.dns.cluster.local'],
  'ns.dns.cluster.local A': ['A 10.96.0.10'],
  'ns.dns.cluster.local AAAA': ['AAAA fd00:10:96::a'],
  '244.10.in-addr.arpa SOA': ['SOA ns.dns.cluster.local hostmaster.cluster.local 5'],
  '97.10.in-addr.arpa NS': ['NS ns.dns.cluster.local'],
};

describe('records', () => {
  for (const [question, records] of Object.entries(answered)) {
    test(question, () => {
      const answer = ask(question);
      assert.equal(answer.rcode, Rcode.noError);
      assert.ok(answer.authoritative);
      assert.deepEqual(
        answer.answers.map((record) => show(record, question.split(' ')[0]!)),
        records,
      );
      assert.deepEqual(answer.authority, []);
      assert.ok(answer.answers.every(({ ttl }) => ttl === 5));
    });
  }
});

/** Names that exist, without records of the type: what their SOA record belongs to. */
const noData: Record<string, string> = {
  [`${svc('web')} TXT`]: 'cluster.local',
  'single.other.svc.cluster.local AAAA': 'cluster.local',
  [`${svc('v6')} A`]: 'cluster.local',
  [`db-0.${svc('db')} SRV`]: 'cluster.local',
  [`_http._tcp.${svc('web')} A`]: 'cluster.local',
  [`${svc('portless')} SRV`]: 'cluster.local',
  'cluster.local A': 'cluster.local',
  'dns-version.cluster.local A': 'cluster.local',
  '10-244-1-2.default.pod.cluster.local AAAA': 'cluster.local',
  '5.1.244.10.in-addr.arpa A': '244.10.in-addr.arpa',
  // names below which there are others (empty non-terminals)
  'svc.cluster.local A': 'cluster.local',
  'pod.cluster.local A': 'cluster.local',
  'dns.cluster.local A': 'cluster.local',
  'default.svc.cluster.local A': 'cluster.local',
  'empty.svc.cluster.local A': 'cluster.local',
  'default.pod.cluster.local A': 'cluster.local',
  [`_tcp.${svc('web')} SRV`]: 'cluster.local',
  [`_tcp.${svc('db')} SRV`]: 'cluster.local',
  '1.244.10.in-addr.arpa PTR': '244.10.in-addr.arpa',
  '244.10.in-addr.arpa PTR': '244.10.in-addr.arpa',
};

describe('NODATA', () => {
  for (const [question, owner] of Object.entries(noData)) {
    test(question, () => {
      const answer = ask(question);
      assert.equal(answer.rcode, Rcode.noError);
      assert.deepEqual(answer.answers, []);
      assert.deepEqual(
        answer.authority.map(({ type, name }) => `${type} ${name}`),
        [`SOA ${owner}`],
      );
    });
  }
});

const unknown: Record<string, string> = {
  'nope.cluster.local A': 'cluster.local',
  'x.dns-version.cluster.local TXT': 'cluster.local',
  'x.ns.dns.cluster.local A': 'cluster.local',
  'nope.svc.cluster.local A': 'cluster.local',
  'web.nope.svc.cluster.local A': 'cluster.local',
  [`${svc('nope')} A`]: 'cluster.local',
  [`nope.${svc('web')} A`]: 'cluster.local',
  [`_nope._tcp.${svc('web')} SRV`]: 'cluster.local',
  [`_http._udp.${svc('web')} SRV`]: 'cluster.local',
  [`_udp.${svc('db')} SRV`]: 'cluster.local',
  [`x._http._tcp.${svc('web')} SRV`]: 'cluster.local',
  [`_http.db-0.${svc('db')} SRV`]: 'cluster.local',
  '_._tcp.single.other.svc.cluster.local SRV': 'cluster.local',
  '_tcp.single.other.svc.cluster.local SRV': 'cluster.local',
  // headless Services without ready endpoints: section 2.4.1
  [`${svc('nobody')} A`]: 'cluster.local',
  [`${svc('unready')} A`]: 'cluster.local',
  [`_http._tcp.${svc('unready')} SRV`]: 'cluster.local',
  [`10-244-1-7.${svc('db')} A`]: 'cluster.local',
  '7.1.244.10.in-addr.arpa PTR': '244.10.in-addr.arpa',
  [`x.${svc('outside')} A`]: 'cluster.local',
  [`${svc('digits')} A`]: 'cluster.local',
  [`${svc('nonsense')} A`]: 'cluster.local',
  '10-244-1-2.other.pod.cluster.local A': 'cluster.local',
  '10-244-1-3.other.pod.cluster.local A': 'cluster.local',
  'x.10-244-1-2.default.pod.cluster.local A': 'cluster.local',
  'web.default.pod.cluster.local A': 'cluster.local',
  '99.99.244.10.in-addr.arpa PTR': '244.10.in-addr.arpa',
  '9.0.100.10.in-addr.arpa PTR': '100.10.in-addr.arpa',
};

describe('NXDOMAIN', () => {
  for (const [question, owner] of Object.entries(unknown)) {
    test(question, () => {
      const answer = ask(question);
      assert.equal(answer.rcode, Rcode.nxDomain);
      assert.ok(answer.authoritative);
      assert.deepEqual(answer.answers, []);
      assert.deepEqual(
        answer.authority.map(({ type, name }) => `${type} ${name}`),
        [`SOA ${owner}`],
      );
    });
  }
});

describe('names of others', () => {
  for (const name of [
    'example.com',
    'local',
    'notcluster.local',
    '',
    '1.0.18.172.in-addr.arpa',
    '10.in-addr.arpa',
    'arpa',
    'f.ip6.arpa',
  ]) {
    test(`${name || 'the root'} is handed on`, () => assert.equal(zone.resolve(name, Type.A), undefined));
  }
});

test('an alias to a name that is not there is NXDOMAIN, with the alias (RFC 6604)', () => {
  const answer = ask(`${svc('dangling')} A`);
  assert.equal(answer.rcode, Rcode.nxDomain);
  assert.deepEqual(
    answer.answers.map((record) => show(record, svc('dangling'))),
    [`CNAME ${svc('gone')}`],
  );
  assert.equal(answer.authority[0]!.type, 'SOA');
});

test('an alias to a name without the type is NODATA, with the alias and the SOA record (RFC 2308 section 2.2)', () => {
  const answer = ask(`${svc('alias')} TXT`);
  assert.equal(answer.rcode, Rcode.noError);
  assert.deepEqual(
    answer.answers.map(({ type }) => type),
    ['CNAME'],
  );
  assert.equal(answer.authority[0]!.type, 'SOA');
});

test('aliases in a circle are an error', () => {
  const answer = ask(`${svc('circle')} A`);
  assert.equal(answer.rcode, Rcode.serverFailure);
  assert.deepEqual(answer.answers, []);
  assert.equal(ask(`${svc('circle')} CNAME`).answers.length, 1);
});

test('an alias that leaves the zone says where it continues', () => {
  assert.equal(ask(`${svc('outside')} A`).continuesAt, 'www.example.com');
  assert.equal(ask(`${svc('alias3')} A`).continuesAt, 'www.example.com');
  assert.equal(ask(`${svc('outside')} CNAME`).continuesAt, undefined);
  assert.equal(ask(`${svc('alias')} A`).continuesAt, undefined);
});

test('SRV and NS bring the addresses of their targets', () => {
  const additional = (question: string) => ask(question).additional.map((record) => show(record, ''));
  assert.deepEqual(additional(`_http._tcp.${svc('web')} SRV`), [
    `${svc('web')} A 10.96.0.1`,
    `${svc('web')} AAAA fd00:10:96::1`,
  ]);
  assert.deepEqual(additional(`_metrics._tcp.${svc('db')} SRV`), [
    `db-0.${svc('db')} A 10.244.1.5`,
    `10-244-1-6.${svc('db')} A 10.244.1.6`,
    `db-0.${svc('db')} AAAA fd00:10:244::5`,
  ]);
  assert.deepEqual(additional('cluster.local NS'), [
    'ns.dns.cluster.local A 10.96.0.10',
    'ns.dns.cluster.local AAAA fd00:10:96::a',
  ]);
  assert.deepEqual(additional(`${svc('web')} A`), []);
});
