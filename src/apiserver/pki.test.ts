import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ensureAuthority, ensureCertificate, ensureServiceAccountKey, issueCertificate } from './pki.ts';

const dir = mkdtempSync(join(tmpdir(), 'podwire-pki-'));
after(() => rmSync(dir, { recursive: true, force: true }));

describe('pki', () => {
  it('makes an authority once', async () => {
    const first = await ensureAuthority(dir);
    assert.deepEqual(await ensureAuthority(dir), first);
    const certificate = new X509Certificate(first.cert);
    assert.ok(certificate.ca && certificate.verify(certificate.publicKey));
    assert.equal(statSync(join(dir, 'ca.key')).mode & 0o777, 0o600);
  });

  it('issues certificates with names, groups and addresses', async () => {
    const authority = await ensureAuthority(dir);
    const pair = await issueCertificate(authority, {
      commonName: 'system:node:a',
      organizations: ['system:nodes', 'é'],
      sans: ['localhost', '127.0.0.1', 'fd00::1'],
      usages: ['client', 'server'],
      days: 30,
    });
    const certificate = new X509Certificate(pair.cert);
    const issuer = new X509Certificate(authority.cert);
    assert.ok(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey));
    assert.deepEqual(certificate.subject.split('\n'), ['O=system:nodes', 'O=é', 'CN=system:node:a']);
    assert.ok(certificate.checkHost('localhost') && certificate.checkIP('127.0.0.1') && certificate.checkIP('fd00::1'));
    assert.equal(certificate.checkIP('127.0.0.2'), undefined);
    assert.equal(certificate.ca, false);
    assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1']);
    const days = (Date.parse(certificate.validTo) - Date.now()) / 86_400_000;
    assert.ok(days > 29 && days < 31);
  });

  it('keeps named certificates and the key of tokens', async () => {
    const authority = await ensureAuthority(dir);
    const request = { commonName: 'x', usages: ['client'] as const };
    assert.deepEqual(
      await ensureCertificate(authority, 'x', request),
      await ensureCertificate(authority, 'x', request),
    );
    assert.equal(await ensureServiceAccountKey(dir), await ensureServiceAccountKey(dir));
  });
});
