/**
 * Bodies that kubectl 1.32.4 sent to this server, byte by byte, and what it would have said in JSON
 * (`--dry-run=client -o json`). Recorded by a proxy between the two.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StatusError } from '../../kube/status.ts';
import { kinds } from '../resources/index.ts';
import { decode } from '../schema/decode.ts';
import { parseProtobuf } from './decode.ts';

interface Captured {
  readonly command: string;
  readonly body: string;
  readonly json: { readonly kind: string; readonly [field: string]: unknown };
}

const captured: readonly Captured[] = [
  {
    command: 'create namespace captured',
    body: 'azhzAAoPCgJ2MRIJTmFtZXNwYWNlEiAKGAoIY2FwdHVyZWQSABoAIgAqADIAOABCABIAGgIKABoAIgA=',
    json: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'captured' }, spec: {}, status: {} },
  },
  {
    command: 'create deployment web --image=nginx --port=80 --replicas=2 -- sleep 1000',
    body: 'azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50Es0BCicKA3dlYhIAGghjYXB0dXJlZCIAKgAyADgAQgBaCgoDYXBwEgN3ZWISkwEIAhIMCgoKA2FwcBIDd2ViGnkKHAoAEgAaACIAKgAyADgAQgBaCgoDYXBwEgN3ZWISWRI7CgVuZ2lueBIFbmdpbngaBXNsZWVwGgQxMDAwKgAyCgoAEAAYUCIAKgBCAGoAcgCAAQCIAQCQAQCiAQAaADIAQgBKAFIAWABgAGgAggEAigEAmgEAwgEAIgIKACgAOAAaDAgAEAAYACAAKAA4ABoAIgA=',
    json: {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web', namespace: 'captured', labels: { app: 'web' } },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'web' } },
        template: {
          metadata: { labels: { app: 'web' } },
          spec: {
            containers: [
              {
                name: 'nginx',
                image: 'nginx',
                command: ['sleep', '1000'],
                ports: [{ containerPort: 80 }],
                resources: {},
              },
            ],
          },
        },
        strategy: {},
      },
      status: {},
    },
  },
  {
    command: 'create service clusterip web --tcp=80:8080 --tcp=443:https',
    body: 'azhzAAoNCgJ2MRIHU2VydmljZRKVAQonCgN3ZWISABoIY2FwdHVyZWQiACoAMgA4AEIAWgoKA2FwcBIDd2ViEmYKGwoHODAtODA4MBIDVENQGFAiBwgAEJA/GgAoAAoiCgk0NDMtaHR0cHMSA1RDUBi7AyILCAEQABoFaHR0cHMoABIKCgNhcHASA3dlYhoAIglDbHVzdGVySVA6AEIAUgBaAGAAaAAaAgoAGgAiAA==',
    json: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', namespace: 'captured', labels: { app: 'web' } },
      spec: {
        ports: [
          { name: '80-8080', protocol: 'TCP', port: 80, targetPort: 8080 },
          { name: '443-https', protocol: 'TCP', port: 443, targetPort: 'https' },
        ],
        selector: { app: 'web' },
        type: 'ClusterIP',
      },
      status: { loadBalancer: {} },
    },
  },
  {
    command: 'create service externalname out --external-name=example.org',
    body: 'azhzAAoNCgJ2MRIHU2VydmljZRJiCicKA291dBIAGghjYXB0dXJlZCIAKgAyADgAQgBaCgoDYXBwEgNvdXQSMxIKCgNhcHASA291dBoAIgxFeHRlcm5hbE5hbWU6AEIAUgtleGFtcGxlLm9yZ1oAYABoABoCCgAaACIA',
    json: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'out', namespace: 'captured', labels: { app: 'out' } },
      spec: { selector: { app: 'out' }, type: 'ExternalName', externalName: 'example.org' },
      status: { loadBalancer: {} },
    },
  },
  {
    command: 'create configmap settings --from-literal=colour=blue --from-literal=empty=',
    body: 'azhzAAoPCgJ2MRIJQ29uZmlnTWFwEj0KIAoIc2V0dGluZ3MSABoIY2FwdHVyZWQiACoAMgA4AEIAEg4KBmNvbG91chIEYmx1ZRIJCgVlbXB0eRIAGgAiAA==',
    json: {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'settings', namespace: 'captured' },
      data: { colour: 'blue', empty: '' },
    },
  },
  {
    command: 'create configmap blob --from-file=blob (the bytes ff 00 01)',
    body: 'azhzAAoPCgJ2MRIJQ29uZmlnTWFwEisKHAoEYmxvYhIAGghjYXB0dXJlZCIAKgAyADgAQgAaCwoEYmxvYhID/wABGgAiAA==',
    json: {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'blob', namespace: 'captured' },
      binaryData: { blob: '/wAB' },
    },
  },
  {
    command: 'create secret generic pass --from-literal=user=me --from-literal=word=geheim',
    body: 'azhzAAoMCgJ2MRIGU2VjcmV0EjwKHAoEcGFzcxIAGghjYXB0dXJlZCIAKgAyADgAQgASCgoEdXNlchICbWUSDgoEd29yZBIGZ2VoZWltGgAaACIA',
    json: {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'pass', namespace: 'captured' },
      data: { user: 'bWU=', word: 'Z2VoZWlt' },
    },
  },
  {
    command: 'create serviceaccount robot',
    body: 'azhzAAoUCgJ2MRIOU2VydmljZUFjY291bnQSHwodCgVyb2JvdBIAGghjYXB0dXJlZCIAKgAyADgAQgAaACIA',
    json: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'robot', namespace: 'captured' } },
  },
  {
    command: 'debug one --image=busybox --copy-to=two --same-node -- sleep 5 (run itself speaks JSON)',
    body: 'azhzAAoJCgJ2MRIDUG9kEoQFChsKA3R3bxIAGghjYXB0dXJlZCIAKgAyADgAQgAS0gQKhAEKFWt1YmUtYXBpLWFjY2Vzcy10a3c5aBJr0gFoCg4iDAoAEJccGgV0b2tlbgooGiYKEgoQa3ViZS1yb290LWNhLmNydBIQCgZjYS5jcnQSBmNhLmNydAopEicKJQoJbmFtZXNwYWNlEhgKAnYxEhJtZXRhZGF0YS5uYW1lc3BhY2UQpAMSowEKA29uZRIFbmdpbngqADINCgAQABhQIgNUQ1AqADoGCgFBEgFiQgBKTAoVa3ViZS1hcGktYWNjZXNzLXRrdzloEAEaLS92YXIvcnVuL3NlY3JldHMva3ViZXJuZXRlcy5pby9zZXJ2aWNlYWNjb3VudCIAMgBqFC9kZXYvdGVybWluYXRpb24tbG9ncgZBbHdheXOAAQCIAQCQAQCiAQRGaWxlEjsKDmRlYnVnZ2VyLTk2bHN3EgdidXN5Ym94GgVzbGVlcBoBNSoAQgBqAHIAgAEAiAEAkAEAogEERmlsZRoGQWx3YXlzIB4yDENsdXN0ZXJGaXJzdEIHZGVmYXVsdEoHZGVmYXVsdFIGbm9kZS0xWABgAGgAcgCCAQCKAQCaARFkZWZhdWx0LXNjaGVkdWxlcrIBNgocbm9kZS5rdWJlcm5ldGVzLmlvL25vdC1yZWFkeRIGRXhpc3RzGgAiCU5vRXhlY3V0ZSisArIBOAoebm9kZS5rdWJlcm5ldGVzLmlvL3VucmVhY2hhYmxlEgZFeGlzdHMaACIJTm9FeGVjdXRlKKwCwgEAyAEA8AEB+gEUUHJlZW1wdExvd2VyUHJpb3JpdHkaEAoAGgAiACoAMgBKAFoAcgAaACIA',
    json: {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'two', namespace: 'captured' },
      spec: {
        volumes: [
          {
            name: 'kube-api-access-tkw9h',
            projected: {
              sources: [
                { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
                { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
                {
                  downwardAPI: {
                    items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
                  },
                },
              ],
              defaultMode: 420,
            },
          },
        ],
        containers: [
          {
            name: 'one',
            image: 'nginx',
            ports: [{ containerPort: 80, protocol: 'TCP' }],
            env: [{ name: 'A', value: 'b' }],
            volumeMounts: [
              {
                name: 'kube-api-access-tkw9h',
                readOnly: true,
                mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
              },
            ],
            terminationMessagePath: '/dev/termination-log',
            terminationMessagePolicy: 'File',
            imagePullPolicy: 'Always',
          },
          {
            name: 'debugger-96lsw',
            image: 'busybox',
            command: ['sleep', '5'],
            terminationMessagePolicy: 'File',
          },
        ],
        restartPolicy: 'Always',
        terminationGracePeriodSeconds: 30,
        dnsPolicy: 'ClusterFirst',
        serviceAccountName: 'default',
        serviceAccount: 'default',
        nodeName: 'node-1',
        securityContext: {},
        schedulerName: 'default-scheduler',
        tolerations: [
          {
            key: 'node.kubernetes.io/not-ready',
            operator: 'Exists',
            effect: 'NoExecute',
            tolerationSeconds: 300,
          },
          {
            key: 'node.kubernetes.io/unreachable',
            operator: 'Exists',
            effect: 'NoExecute',
            tolerationSeconds: 300,
          },
        ],
        priority: 0,
        enableServiceLinks: true,
        preemptionPolicy: 'PreemptLowerPriority',
      },
      status: {},
    },
  },
];

const bytes = ({ body }: { body: string }) => Buffer.from(body, 'base64');

describe('kubectl', () => {
  for (const one of captured) {
    test(one.command, () => {
      const { schema } = kinds.find(({ kind }) => kind === one.json.kind)!;
      assert.deepEqual(decode(schema, parseProtobuf(bytes(one))), decode(schema, one.json));
    });
  }

  test('drain --disable-eviction --grace-period=1', () => {
    assert.deepEqual(parseProtobuf(Buffer.from('azhzAAoTCgJ2MRINRGVsZXRlT3B0aW9ucxICCAEaACIA', 'base64')), {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      gracePeriodSeconds: 1,
    });
  });

  test('create token robot --duration=20m', () => {
    const body =
      'azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBIdChAKABIAGgAiACoAMgA4AEIAEgMgsAkaBAoAEgAaACIA';
    const decoded = parseProtobuf(Buffer.from(body, 'base64')) as { spec: unknown };
    assert.deepEqual(decoded.spec, { expirationSeconds: 1200 });
  });

  test('auth can-i create pods', () => {
    const body =
      'azhzAAoyChdhdXRob3JpemF0aW9uLms4cy5pby92MRIXU2VsZlN1YmplY3RBY2Nlc3NSZXZpZXcSPwoQCgASABoAIgAqADIAOABCABIhCh8KB2RlZmF1bHQSBmNyZWF0ZRoAIgAqBHBvZHMyADoAGggIABIAGgAgABoAIgA=';
    const decoded = parseProtobuf(Buffer.from(body, 'base64')) as { spec: unknown };
    assert.deepEqual(decoded.spec, {
      resourceAttributes: { namespace: 'default', verb: 'create', resource: 'pods' },
    });
  });
});

/** Whatever a body has become on its way: it is decoded or refused, and nothing else happens. */
function decodeOrRefuse(body: Buffer): void {
  try {
    parseProtobuf(body);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    assert.ok([400, 415].includes(error.code), String(error.code));
  }
}

test('cut off anywhere, they are refused or decoded as far as they go', () => {
  for (const one of captured) {
    const whole = bytes(one);
    for (let length = 0; length < whole.length; length++) decodeOrRefuse(whole.subarray(0, length));
  }
});

test('with any byte changed, they are refused or decoded', () => {
  for (const one of captured) {
    const whole = bytes(one);
    for (let at = 0; at < whole.length; at++) {
      for (const value of [0, 0x7f, 0x80, 0xff, whole[at]! ^ 1, whole[at]! ^ 2, whole[at]! ^ 4]) {
        const changed = Buffer.from(whole);
        changed[at] = value;
        decodeOrRefuse(changed);
      }
    }
  }
});
