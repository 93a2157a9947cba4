import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ERRNO,
  errnoName,
  hasCode,
  isBusy,
  isExists,
  isNotFound,
  isNotSupported,
  isPermission,
  KernelError,
} from './errors.ts';

const of = (code: string): KernelError => new KernelError('try', ERRNO[code]!);

test('an error says what was asked for, the code and the kernel’s words', () => {
  const error = new KernelError('add route 10.0.0.0/8', 17, 'already there');
  assert.equal(error.message, 'add route 10.0.0.0/8: EEXIST: already there');
  assert.deepEqual([error.operation, error.errno, error.code], ['add route 10.0.0.0/8', 17, 'EEXIST']);
  assert.equal(new KernelError('try', 2).message, 'try: ENOENT');
});

test('numbers with two names get the usual one, unknown ones their number', () => {
  assert.deepEqual([errnoName(11), errnoName(95), errnoName(35)], ['EAGAIN', 'EOPNOTSUPP', 'EDEADLK']);
  assert.equal(errnoName(4242), 'E4242');
});

test('predicates', () => {
  const predicates = { isExists, isNotFound, isBusy, isNotSupported, isPermission };
  const cases: [string, keyof typeof predicates][] = [
    ['EEXIST', 'isExists'],
    ['ENOENT', 'isNotFound'],
    ['ESRCH', 'isNotFound'],
    ['ENODEV', 'isNotFound'],
    ['EADDRNOTAVAIL', 'isNotFound'],
    ['EBUSY', 'isBusy'],
    ['EADDRINUSE', 'isBusy'],
    ['EOPNOTSUPP', 'isNotSupported'],
    ['EPROTONOSUPPORT', 'isNotSupported'],
    ['EPERM', 'isPermission'],
  ];
  for (const [code, name] of cases) {
    for (const [other, predicate] of Object.entries(predicates)) {
      assert.equal(predicate(of(code)), other === name, `${other}(${code})`);
    }
  }
  assert.equal(isNotFound(Object.assign(new Error('of Node'), { code: 'ENOENT' })), false);
  assert.equal(hasCode(of('ENOBUFS'), 'EPERM', 'ENOBUFS'), true);
});
