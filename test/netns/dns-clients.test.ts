/**
 * Real resolvers ask the real server at the cluster's address: glibc (getent), BusyBox's nslookup, BIND's dig and nslookup.
 * What BusyBox 1.35 does is written down here because people try clusters with it: it uses search domains only for names
 * without a dot, asks all of them, and its exit code says whether every one of them had an answer.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { DNS_ADDRESSES, DnsLab, resolvConf } from './dns-lab.ts';
import { namespaces, skip } from './linux-fixture.ts';

const makeNamespace = namespaces();
let lab: DnsLab;
before(async () => {
  if (!skip) lab = await DnsLab.start(makeNamespace('dns'));
});
after(() => lab?.stop());

const MY_SERVICE = 'my-service.default.svc.cluster.local';

/** The distinct addresses that glibc finds; empty when there are none. */
async function resolve(namespace: string, name: string, database = 'ahosts', conf = resolvConf(namespace)) {
  const { stdout } = await lab.run(namespace, ['getent', database, name], conf);
  return [...new Set(stdout.split('\n').flatMap((line) => line.split(/\s+/)[0] || []))].sort();
}

describe('glibc', { skip }, () => {
  const both = ['10.96.0.50', 'fd00:10:96::50'];
  for (const [namespace, name, addresses] of [
    ['default', 'my-service', both],
    ['default', 'my-service.default', both],
    ['default', 'my-service.default.svc', both],
    ['default', MY_SERVICE, both],
    ['default', `${MY_SERVICE}.`, both],
    ['default', 'MY-Service.Default', both],
    ['other', 'my-service.default', both],
    ['other', 'my-service', []],
    ['other', 'their-service', ['10.96.0.60']],
    ['default', 'alias', ['10.96.0.60']],
    ['default', 'db', ['10.244.1.5', '10.244.1.6']],
    ['default', 'db-0.db', ['10.244.1.5']],
    ['other', 'db-1.db.default', ['10.244.1.6']],
    ['default', 'nope', []],
    ['default', 'example.com', []],
  ] as const) {
    test(`${name} from ${namespace}`, async () => assert.deepEqual(await resolve(namespace, name), [...addresses]));
  }

  test('an answer too long for a datagram is fetched over TCP, all 200 addresses', async () => {
    const before = await lab.metrics();
    assert.equal((await resolve('default', 'many', 'ahostsv4')).length, 200);
    const then = await lab.metrics();
    assert.ok(Number(then['tcp']) > Number(before['tcp']));
  });

  test('EDNS as glibc sends it', async () => {
    const conf = resolvConf('default').replace('ndots:5', 'ndots:5 edns0');
    assert.deepEqual(await resolve('default', 'my-service', 'ahostsv4', conf), ['10.96.0.50']);
  });

  test('each of the two addresses of the DNS answers alone', async () => {
    for (const address of DNS_ADDRESSES) {
      assert.deepEqual(await resolve('default', 'my-service', 'ahostsv4', resolvConf('default', [address])), [
        '10.96.0.50',
      ]);
    }
  });

  test('addresses have names', async () => {
    for (const [address, name] of [
      ['10.96.0.50', MY_SERVICE],
      ['fd00:10:96::50', MY_SERVICE],
      ['10.244.1.5', 'db-0.db.default.svc.cluster.local'],
      ['10.244.2.9', '10-244-2-9.many.default.svc.cluster.local'],
    ] as const) {
      const { stdout } = await lab.run('default', ['getent', 'hosts', address]);
      assert.equal(stdout.trim().split(/\s+/)[1], name);
    }
  });
});

const noBusybox = existsSync('/bin/busybox') || existsSync('/usr/bin/busybox') ? skip : 'busybox is not installed';

describe("BusyBox's nslookup", { skip: noBusybox }, () => {
  const nslookup = (namespace: string, ...args: string[]) => lab.run(namespace, ['busybox', 'nslookup', ...args]);

  test('the full name, with and without the final dot', async () => {
    for (const name of [MY_SERVICE, `${MY_SERVICE}.`]) {
      const { stdout, code } = await nslookup('default', name);
      assert.match(stdout, /Name:\tmy-service\.default\.svc\.cluster\.local\nAddress: 10\.96\.0\.50/);
      assert.match(stdout, /Address: fd00:10:96::50/);
      assert.equal(code, 0);
    }
  });

  test('the short name is found, and the exit code is 1 because other search domains do not have it', async () => {
    const { stdout, code } = await nslookup('default', 'my-service');
    assert.match(stdout, /Name:\tmy-service\.default\.svc\.cluster\.local\nAddress: 10\.96\.0\.50/);
    assert.match(stdout, /can't find my-service\.svc\.cluster\.local: NXDOMAIN/);
    assert.equal(code, 1);
  });

  test('a name with a dot is taken as it is, so name.namespace is not found', async () => {
    const { stdout, code } = await nslookup('other', 'my-service.default');
    assert.match(stdout, /can't find my-service\.default: REFUSED/);
    assert.equal(code, 1);
  });

  test('with a server given there are no search domains', async () => {
    assert.match((await nslookup('default', 'my-service', '10.96.0.10')).stdout, /can't find my-service: REFUSED/);
    assert.equal((await nslookup('default', MY_SERVICE, '10.96.0.10')).code, 0);
  });

  test('SRV and PTR', async () => {
    const srv = await nslookup('default', '-type=srv', `_http._tcp.${MY_SERVICE}`);
    assert.match(srv.stdout, /service = 0 100 80 my-service\.default\.svc\.cluster\.local/);
    const ptr = await nslookup('default', '10.96.0.50');
    assert.match(ptr.stdout, /50\.0\.96\.10\.in-addr\.arpa\tname = my-service\.default\.svc\.cluster\.local/);
    assert.equal(srv.code + ptr.code, 0);
  });
});

const noBind = existsSync('/usr/bin/dig') ? skip : 'dig is not installed (bind9-dnsutils)';

describe("BIND's clients", { skip: noBind }, () => {
  const dig = async (...args: string[]) => (await lab.run('default', ['dig', '@10.96.0.10', ...args])).stdout;
  const db = 'db.default.svc.cluster.local';

  test('nslookup uses search domains for every name', async () => {
    for (const [namespace, name] of [
      ['default', 'my-service'],
      ['default', 'my-service.default'],
      ['other', 'my-service.default'],
      ['other', MY_SERVICE],
    ] as const) {
      const { stdout, code } = await lab.run(namespace, ['nslookup', name]);
      assert.match(stdout, /Name:\tmy-service\.default\.svc\.cluster\.local\nAddress: 10\.96\.0\.50/);
      assert.equal(code, 0);
    }
    const { stdout, code } = await lab.run('other', ['nslookup', 'my-service']);
    assert.match(stdout, /can't find my-service/);
    assert.equal(code, 1);
  });

  test('a well-formed answer, without a warning', async () => {
    const output = await dig(MY_SERVICE, 'A');
    assert.match(output, /status: NOERROR/);
    assert.match(output, /flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1/);
    assert.doesNotMatch(output, /WARNING: (?!\.local)|malformed|extra bytes/i);
  });

  test('NODATA and NXDOMAIN carry the SOA record', async () => {
    for (const [name, status] of [
      ['svc.cluster.local', 'NOERROR'],
      ['nope.default.svc.cluster.local', 'NXDOMAIN'],
    ] as const) {
      const output = await dig(name);
      assert.match(output, new RegExp(`status: ${status}`));
      assert.match(output, /ANSWER: 0, AUTHORITY: 1/);
      assert.match(output, /cluster\.local\.\s+5\s+IN\s+SOA\s+ns\.dns\.cluster\.local\. hostmaster\.cluster\.local\./);
    }
  });

  test('SRV with the addresses of its targets', async () => {
    const output = await dig(`_http._tcp.${db}`, 'SRV');
    assert.match(output, /IN\s+SRV\s+0 100 80 db-0\.db\.default\.svc\.cluster\.local\./);
    assert.match(
      output,
      /ADDITIONAL SECTION:\n(?:.*\n)*db-0\.db\.default\.svc\.cluster\.local\. 5\s+IN\s+A\s+10\.244\.1\.5/,
    );
  });

  test('truncation, and TCP after it', async () => {
    assert.match(await dig('+ignore', '+noedns', 'many.default.svc.cluster.local'), /flags: qr aa tc rd ra/);
    assert.match(await dig('+ignore', '+bufsize=4096', 'many.default.svc.cluster.local'), /flags: qr aa tc rd ra/);
    assert.match(await dig('many.default.svc.cluster.local'), /ANSWER: 200,/);
  });

  test('several queries over one TCP connection', async () => {
    const output = await dig('+tcp', '+keepopen', MY_SERVICE, 'A', '@10.96.0.10', db, 'A', '+tcp', '+keepopen');
    assert.equal(output.match(/status: NOERROR/g)?.length, 2);
  });

  test('what is not done is said: EDNS 1, transfers, other classes, other opcodes', async () => {
    assert.match(await dig('+edns=1', '+noednsneg', MY_SERVICE), /status: BADVERS/);
    assert.match(await dig('cluster.local', 'AXFR'), /Transfer failed/);
    assert.match(await dig('version.bind', 'CH', 'TXT'), /status: REFUSED/);
    assert.match(await dig('+opcode=notify', MY_SERVICE), /status: NOTIMP/);
    assert.match(await dig('example.com'), /status: REFUSED/);
  });
});
