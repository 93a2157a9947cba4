/** Makes X.509 v3 certificates (RFC 5280) with P-256 keys and ECDSA-SHA256, with node:crypto alone: no import costs a start. */
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import { ipToBytes } from '../../base/ip.ts';
import * as der from './der.ts';

const ECDSA_SHA256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));
const OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** Bits of KeyUsage, first bit highest: digitalSignature 0, keyCertSign 5, cRLSign 6. */
const USAGE_AUTHORITY = der.bits(Buffer.from([0b1000_0110]), 1);
const USAGE_LEAF = der.bits(Buffer.from([0b1000_0000]), 7);

export interface Subject {
  readonly commonName: string;
  readonly organizations?: readonly string[];
}

export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface Pem {
  readonly cert: string;
  readonly key: string;
}

export function makeAuthority(subject: Subject, validity: Validity): Pem {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const name = nameOf(subject);
  const extensions = [
    extension(OID.basicConstraints, 'critical', der.sequence(der.boolean('true'))),
    extension(OID.keyUsage, 'critical', USAGE_AUTHORITY),
    extension(OID.subjectKeyIdentifier, 'optional', der.octets(keyIdentifier(keys.publicKey))),
  ];
  return pem(
    { issuer: name, subject: name, validity, publicKey: keys.publicKey, extensions },
    keys.privateKey,
    keys.privateKey,
  );
}

export function makeCertificate(
  authority: Pem,
  subject: Subject,
  validity: Validity,
  options: { readonly sans: readonly string[]; readonly usages: readonly ('client' | 'server')[] },
): Pem {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = new X509Certificate(authority.cert);
  const purposes = options.usages.map((usage) => der.oid(usage === 'client' ? OID.clientAuth : OID.serverAuth));
  const extensions = [
    extension(OID.basicConstraints, 'critical', der.sequence()),
    extension(OID.keyUsage, 'critical', USAGE_LEAF),
    extension(OID.extendedKeyUsage, 'optional', der.sequence(...purposes)),
    extension(
      OID.authorityKeyIdentifier,
      'optional',
      der.sequence(der.contextPrimitive(0, keyIdentifier(issuer.publicKey))),
    ),
    ...(options.sans.length > 0
      ? [extension(OID.subjectAltName, 'optional', der.sequence(...options.sans.map(generalName)))]
      : []),
  ];
  const parts = {
    issuer: subjectOf(issuer),
    subject: nameOf(subject),
    validity,
    publicKey: keys.publicKey,
    extensions,
  };
  return pem(parts, createPrivateKey(authority.key), keys.privateKey);
}

interface Parts {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly validity: Validity;
  readonly publicKey: KeyObject;
  readonly extensions: readonly Buffer[];
}

function pem(parts: Parts, signingKey: KeyObject, ownKey: KeyObject): Pem {
  const toBeSigned = der.sequence(
    der.context(0, der.integer(Buffer.from([2]))),
    der.integer(serialNumber()),
    ECDSA_SHA256,
    parts.issuer,
    der.sequence(der.time(parts.validity.notBefore), der.time(parts.validity.notAfter)),
    parts.subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    der.context(3, der.sequence(...parts.extensions)),
  );
  const certificate = der.sequence(toBeSigned, ECDSA_SHA256, der.bits(sign('sha256', toBeSigned, signingKey)));
  const lines = certificate.toString('base64').match(/.{1,64}/g)!;
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
    key: ownKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  };
}

/** 16 random bytes; the top bit is clear and the next set, so that it is positive and of full length. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes;
}

function nameOf({ commonName, organizations = [] }: Subject): Buffer {
  const attribute = (id: string, value: string) => der.set(der.sequence(der.oid(id), der.utf8(value)));
  return der.sequence(
    ...organizations.map((organization) => attribute(OID.organization, organization)),
    attribute(OID.commonName, commonName),
  );
}

/** The subject as it stands in a certificate, byte for byte: what its children name as their issuer. */
function subjectOf(certificate: X509Certificate): Buffer {
  const [whole] = der.elements(certificate.raw);
  const [toBeSigned] = der.elements(whole!.content);
  // version, serial number, algorithm, issuer, validity, subject
  return der.elements(toBeSigned!.content)[5]!.whole;
}

/** RFC 5280 section 4.2.1.2, method 1: SHA-1 of the public key's bits. */
function keyIdentifier(key: KeyObject): Buffer {
  const [info] = der.elements(key.export({ type: 'spki', format: 'der' }));
  const [, bitString] = der.elements(info!.content);
  return createHash('sha1').update(bitString!.content.subarray(1)).digest();
}

function extension(id: string, criticality: 'critical' | 'optional', value: Buffer): Buffer {
  const critical = criticality === 'critical' ? [der.boolean('true')] : [];
  return der.sequence(der.oid(id), ...critical, der.octets(value));
}

function generalName(san: string): Buffer {
  return isIP(san) ? der.contextPrimitive(7, ipToBytes(san)) : der.contextPrimitive(2, Buffer.from(san));
}
