import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  CniError,
  type CniRequest,
  decodeHead,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  MAX_REQUEST_BYTES,
  renderResult,
  SUPPORTED_VERSIONS,
} from './protocol.ts';

const config = { cniVersion: '1.1.0', name: 'podwire', type: 'podwire' };
const environment = {
  pid: '77',
  netns_fd: '5',
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'abc-1_2.3',
  CNI_NETNS: '/run/netns/x',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_UID=u-1;K8S_POD_INFRA_CONTAINER_ID=abc',
};

function decode(changes: Record<string, string | undefined> = {}, configuration: unknown = config): CniRequest {
  const pairs = Object.entries({ ...environment, ...changes }).filter(([, value]) => value !== undefined);
  const text = typeof configuration === 'string' ? configuration : JSON.stringify(configuration);
  const bytes = encodeRequest(Object.fromEntries(pairs) as Record<string, string>, text);
  const head = decodeHead(bytes)!;
  assert.equal(bytes.length, head.offset + head.length);
  return decodeRequest(bytes.subarray(head.offset));
}

test('an ADD, whole', () => {
  assert.deepEqual(decode({}, { ...config, mtu: 1400, dns: { nameservers: ['10.96.0.10'] } }), {
    command: 'ADD',
    containerId: 'abc-1_2.3',
    ifname: 'eth0',
    netnsPath: '/run/netns/x',
    netnsHandle: '/proc/77/fd/5',
    pod: { namespace: 'ns', name: 'web-0', uid: 'u-1' },
    config: {
      cniVersion: '1.1.0',
      name: 'podwire',
      mtu: 1400,
      dns: { nameservers: ['10.96.0.10'] },
      prevResult: undefined,
      validAttachments: undefined,
    },
  });
});

test('what may be absent', () => {
  const del = decode({ CNI_COMMAND: 'DEL', CNI_NETNS: undefined, netns_fd: undefined, CNI_ARGS: undefined });
  assert.deepEqual([del.netnsPath, del.netnsHandle, del.pod], ['', undefined, { namespace: '', name: '', uid: '' }]);
  const attachments = [{ containerID: 'a', ifname: 'eth0' }];
  const gc = decode(
    { CNI_COMMAND: 'GC', CNI_CONTAINERID: undefined, CNI_IFNAME: undefined, CNI_NETNS: undefined, netns_fd: undefined },
    { ...config, 'cni.dev/valid-attachments': attachments },
  );
  assert.deepEqual(gc.config.validAttachments, attachments);
});

const refused: [string, number, Record<string, string | undefined>, unknown?][] = [
  ['no command', 4, { CNI_COMMAND: undefined }],
  ['an unknown command', 4, { CNI_COMMAND: 'BUY' }],
  ['no container', 4, { CNI_CONTAINERID: undefined }],
  ['an empty container', 4, { CNI_CONTAINERID: '' }],
  ['a container with a path', 4, { CNI_CONTAINERID: '../x' }],
  ['no interface', 4, { CNI_IFNAME: undefined }],
  ['a long interface name', 4, { CNI_IFNAME: 'sixteen-letters-' }],
  ['an interface name with a slash', 4, { CNI_IFNAME: 'a/b' }],
  ['the interface "."', 4, { CNI_IFNAME: '.' }],
  ['lo as interface', 4, { CNI_IFNAME: 'lo' }],
  ['no namespace', 4, { CNI_NETNS: undefined }],
  ['a namespace that the shim could not open', 4, { netns_fd: undefined }],
  ['a descriptor that is none', 4, { netns_fd: '../../1/ns/net' }],
  ['a process that is none', 4, { pid: 'self' }],
  ['an unknown version', 1, {}, { ...config, cniVersion: '9.0.0' }],
  ['no version', 1, {}, { name: 'podwire' }],
  ['CHECK in 0.3.1', 1, { CNI_COMMAND: 'CHECK' }, { ...config, cniVersion: '0.3.1' }],
  ['GC in 1.0.0', 1, { CNI_COMMAND: 'GC' }, { ...config, cniVersion: '1.0.0' }],
  ['no name', 7, {}, { cniVersion: '1.1.0' }],
  ['a bad MTU', 7, {}, { ...config, mtu: 20 }],
  ['a bad dns', 7, {}, { ...config, dns: 'none' }],
  ['bad attachments', 7, { CNI_COMMAND: 'GC' }, { ...config, 'cni.dev/valid-attachments': [{ containerID: 1 }] }],
  ['no JSON', 6, {}, '{"name":'],
  ['no object', 6, {}, '[]'],
];
for (const [what, code, changes, configuration] of refused) {
  test(`refused with code ${code}: ${what}`, () => {
    assert.throws(
      () => decode(changes, configuration ?? config),
      (error) => error instanceof CniError && error.code === code && error.message.length > 10,
    );
  });
}

test('a head that is incomplete waits, one that is none is refused', () => {
  assert.equal(decodeHead(Buffer.from('podwire-cni/1 12')), undefined);
  assert.deepEqual(decodeHead(Buffer.from('podwire-cni/1 12\nrest')), { offset: 17, length: 12 });
  for (const text of [
    'GET / HTTP/1.1\r\n',
    `podwire-cni/1 ${MAX_REQUEST_BYTES + 1}\n`,
    'podwire-cni/1 -4\n',
    'x'.repeat(99),
  ]) {
    assert.throws(() => decodeHead(Buffer.from(text)), CniError, text);
  }
});

test('property: any bytes are decoded or refused, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        decodeHead(Buffer.from(bytes));
        decodeRequest(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof CniError);
      }
    }),
  );
});

test('property: any JSON as configuration is decoded or refused', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom('name', 'mtu', 'dns', 'prevResult', 'cniVersion'), fc.jsonValue()),
      (value) => {
        try {
          decode({}, { ...config, ...value });
        } catch (error) {
          assert.ok(error instanceof CniError);
        }
      },
    ),
  );
});

test('results have the form of their version', () => {
  const result = {
    interfaces: [{ name: 'eth0', mac: '0a:58:0a:f4:01:07', mtu: 1450, sandbox: '/run/netns/x' }],
    ips: [
      { address: '10.244.1.7/32', gateway: '169.254.1.1', interface: 0 },
      { address: 'fd00::7/128', gateway: 'fe80::1', interface: 0 },
    ],
    routes: [{ dst: '0.0.0.0/0', gw: '169.254.1.1' }],
    dns: {},
  };
  for (const version of SUPPORTED_VERSIONS) {
    const rendered = renderResult(result, version) as typeof result & { cniVersion: string };
    assert.equal(rendered.cniVersion, version);
    assert.equal('mtu' in rendered.interfaces[0]!, version === '1.1.0');
    const families = rendered.ips.map((ip) => ('version' in ip ? ip.version : undefined));
    assert.deepEqual(families, version.startsWith('0.') ? ['4', '6'] : [undefined, undefined]);
  }
});

test('answers carry their length', () => {
  assert.equal(encodeAnswer(1, { msg: 'é' }).toString(), '1 13\n{"msg":"é"}\n');
  assert.equal(encodeAnswer(0, undefined).toString(), '0 0\n');
});
