/**
 * The cluster's own certificate authority and the certificates it issues: P-256 throughout, for a first start within
 * milliseconds. Files are written once and never overwritten; keys are readable by their owner only.
 */
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeAuthority, makeCertificate } from './pki/certificate.ts';

const DAY_MS = 86_400_000;
const YEARS_10_DAYS = 3650;
/** Clocks of other machines may be behind. */
const BACKDATE_MS = 300_000;

/** PEM texts. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends KeyPair {
  /** The folder in which the authority lives. */
  readonly dir: string;
}

export interface CertificateRequest {
  /** The user, or the server's name. */
  readonly commonName: string;
  /** The user's groups. */
  readonly organizations?: readonly string[];
  /** DNS names and IP addresses. */
  readonly sans?: readonly string[];
  readonly usages: readonly ('client' | 'server')[];
  /** How long it is valid; default ten years. */
  readonly days?: number;
}

function validity(days: number) {
  const now = Date.now();
  return { notBefore: new Date(now - BACKDATE_MS), notAfter: new Date(now + days * DAY_MS) };
}

/** The authority in the folder (ca.crt, ca.key), made when absent. */
export async function ensureAuthority(dir: string): Promise<Authority> {
  return { dir, ...ensurePair(dir, 'ca', () => makeAuthority({ commonName: 'podwire-ca' }, validity(YEARS_10_DAYS))) };
}

/** Issues a certificate with a key of its own. */
export async function issueCertificate(authority: KeyPair, request: CertificateRequest): Promise<KeyPair> {
  return makeCertificate(authority, request, validity(request.days ?? YEARS_10_DAYS), {
    sans: request.sans ?? [],
    usages: request.usages,
  });
}

/** The pair `<name>.crt`, `<name>.key` beside the authority, issued when absent. */
export async function ensureCertificate(
  authority: Authority,
  name: string,
  request: CertificateRequest,
): Promise<KeyPair> {
  const existing = readPair(authority.dir, name);
  if (existing) return existing;
  const pair = await issueCertificate(authority, request);
  return ensurePair(authority.dir, name, () => pair);
}

/** The key that signs service account tokens (PKCS#8 PEM, P-256) at `<dir>/sa.key`, made when absent. */
export async function ensureServiceAccountKey(dir: string): Promise<string> {
  const path = join(dir, 'sa.key');
  if (existsSync(path)) return readFileSync(path, 'utf8');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  writeAtomically(path, pem, 0o600);
  return pem;
}

function ensurePair(dir: string, name: string, make: () => KeyPair): KeyPair {
  const existing = readPair(dir, name);
  if (existing) return existing;
  const pair = make();
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  writeAtomically(join(dir, `${name}.key`), pair.key, 0o600);
  writeAtomically(join(dir, `${name}.crt`), pair.cert, 0o644);
  return pair;
}

function readPair(dir: string, name: string): KeyPair | undefined {
  const [cert, key] = [join(dir, `${name}.crt`), join(dir, `${name}.key`)];
  return existsSync(cert) && existsSync(key)
    ? { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
    : undefined;
}

/** A crash leaves either nothing or the whole file. */
function writeAtomically(path: string, text: string, mode: number): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, text, { mode });
  renameSync(temporary, path);
}
