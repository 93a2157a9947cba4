/**
 * Service account tokens: JWTs (RFC 7519) signed with ES256 (RFC 7518), bound to an account and, if asked, to a pod; they
 * end with what they are bound to. Issued by the TokenRequest subresource.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, randomUUID, sign, verify } from 'node:crypto';
import type { Lookup } from '../resources/kind.ts';
import { isRecord } from '../schema/decode.ts';
import type { TokenAuthenticator } from './authenticate.ts';
import type { User } from './user.ts';

export interface TokensOptions {
  /** PKCS#8 PEM, P-256. */
  readonly signingKey: string;
  readonly clusterDomain: string;
  readonly lookup: Lookup;
}

export interface Bound {
  readonly name: string;
  readonly uid: string;
}

export interface TokenSubject {
  readonly namespace: string;
  readonly serviceAccount: Bound;
  readonly pod?: (Bound & { readonly nodeName?: string | undefined }) | undefined;
  readonly audiences: readonly string[];
  readonly seconds: number;
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const ECDSA = 'ieee-p1363';

/** Clocks of pods and nodes may differ a little. */
const LEEWAY_SECONDS = 10;

export class ServiceAccountTokens implements TokenAuthenticator {
  /** Also the audience of tokens for this server. */
  readonly issuer: string;
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #keyId: string;
  readonly #lookup: Lookup;

  constructor({ signingKey, clusterDomain, lookup }: TokensOptions) {
    this.issuer = `https://kubernetes.default.svc.${clusterDomain}`;
    this.#privateKey = createPrivateKey(signingKey);
    this.#publicKey = createPublicKey(this.#privateKey);
    const der = this.#publicKey.export({ type: 'spki', format: 'der' });
    this.#keyId = createHash('sha256').update(der).digest('base64url');
    this.#lookup = lookup;
  }

  get lookup(): Lookup {
    return this.#lookup;
  }

  issue(subject: TokenSubject): { token: string; expires: Date } {
    const now = Math.floor(this.#lookup.now().getTime() / 1000);
    const { namespace, serviceAccount, pod } = subject;
    const node = pod?.nodeName ? this.#lookup.get('nodes', undefined, pod.nodeName) : undefined;
    const claims = {
      aud: subject.audiences.length > 0 ? subject.audiences : [this.issuer],
      exp: now + subject.seconds,
      iat: now,
      iss: this.issuer,
      jti: randomUUID(),
      'kubernetes.io': {
        namespace,
        ...(node ? { node: { name: node.metadata.name, uid: node.metadata.uid } } : {}),
        ...(pod ? { pod: { name: pod.name, uid: pod.uid } } : {}),
        serviceaccount: { name: serviceAccount.name, uid: serviceAccount.uid },
      },
      nbf: now,
      sub: `system:serviceaccount:${namespace}:${serviceAccount.name}`,
    };
    const signed = `${encode({ alg: 'ES256', kid: this.#keyId, typ: 'JWT' })}.${encode(claims)}`;
    const signature = sign('sha256', Buffer.from(signed), { key: this.#privateKey, dsaEncoding: ECDSA });
    return { token: `${signed}.${signature.toString('base64url')}`, expires: new Date((now + subject.seconds) * 1000) };
  }

  authenticate(token: string): User | undefined {
    const claims = this.#verified(token);
    const bound = claims?.['kubernetes.io'];
    if (!claims || !isRecord(bound)) return undefined;
    const now = this.#lookup.now().getTime() / 1000;
    if (typeof claims['exp'] !== 'number' || claims['exp'] < now - LEEWAY_SECONDS) return undefined;
    if (typeof claims['nbf'] === 'number' && claims['nbf'] > now + LEEWAY_SECONDS) return undefined;
    const audiences = [claims['aud']].flat();
    if (claims['iss'] !== this.issuer || !audiences.includes(this.issuer)) return undefined;
    const { namespace } = bound;
    const account = bound['serviceaccount'];
    if (typeof namespace !== 'string' || !this.#isThere('serviceaccounts', namespace, account)) return undefined;
    const { pod } = bound;
    if (pod !== undefined && !this.#isThere('pods', namespace, pod)) return undefined;
    const name = String((account as Record<string, unknown>)['name']);
    return userOf(
      namespace,
      name,
      String((account as Record<string, unknown>)['uid']),
      isRecord(pod) ? pod : undefined,
    );
  }

  #verified(token: string): Record<string, unknown> | undefined {
    const parts = token.split('.');
    if (parts.length !== 3) return undefined;
    const [header, payload, signature] = parts as [string, string, string];
    try {
      const { alg } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { alg?: unknown };
      if (alg !== 'ES256') return undefined;
      const key = { key: this.#publicKey, dsaEncoding: ECDSA } as const;
      if (!verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url')))
        return undefined;
      const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as unknown;
      return isRecord(claims) ? claims : undefined;
    } catch {
      // Not a token at all.
      return undefined;
    }
  }

  #isThere(plural: string, namespace: string, bound: unknown): boolean {
    if (!isRecord(bound) || typeof bound['name'] !== 'string') return false;
    return this.#lookup.get(plural, namespace, bound['name'])?.metadata.uid === bound['uid'];
  }

  openIdConfiguration(): object {
    return {
      issuer: this.issuer,
      jwks_uri: `${this.issuer}/openid/v1/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['ES256'],
    };
  }

  jwks(): object {
    return { keys: [{ use: 'sig', alg: 'ES256', kid: this.#keyId, ...this.#publicKey.export({ format: 'jwk' }) }] };
  }
}

function userOf(namespace: string, name: string, uid: string, pod: Record<string, unknown> | undefined): User {
  return {
    name: `system:serviceaccount:${namespace}:${name}`,
    uid,
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
    ...(pod
      ? {
          extra: {
            'authentication.kubernetes.io/pod-name': [String(pod['name'])],
            'authentication.kubernetes.io/pod-uid': [String(pod['uid'])],
          },
        }
      : {}),
  };
}
