import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatSelector,
  fromLabelSelector,
  fromMap,
  matches,
  matchesFields,
  parseFieldSelector,
  parseSelector,
} from './selectors.ts';

test('the query-string form, case by case', () => {
  const labels = { app: 'web', tier: 'front', n: '5' };
  const cases: [string, boolean][] = [
    ['', true],
    ['app=web', true],
    ['app==web,tier=front', true],
    ['app=web,tier=back', false],
    ['app!=api', true],
    ['missing!=x', true],
    ['app in (web, api)', true],
    ['app in (api)', false],
    ['app notin (api,db)', true],
    ['missing notin (a)', true],
    ['app', true],
    ['!app', false],
    ['!missing', true],
    ['n>4', true],
    ['n<5', false],
    ['example.com/x', false],
    ['app=', false],
  ];
  for (const [text, expected] of cases) assert.equal(matches(parseSelector(text), labels), expected, text);
});

test('what is no selector is refused', () => {
  for (const text of ['a=b=c', 'a in', 'a in (b', '=b', 'a b', 'a>x', ',', 'a/b/c=d', 'a=-']) {
    assert.throws(() => parseSelector(text), TypeError, text);
  }
});

test('formatting and parsing are inverse', () => {
  const word = fc.stringMatching(/^[a-z][a-z0-9]{0,5}$/);
  const plain = { noNullPrototype: true };
  const requirement = fc.oneof(
    fc.record(
      {
        key: word,
        operator: fc.constantFrom('In' as const, 'NotIn' as const),
        values: fc.array(word, { minLength: 1, maxLength: 3 }),
      },
      plain,
    ),
    fc.record({ key: word, operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const) }, plain),
  );
  fc.assert(
    fc.property(fc.array(requirement, { maxLength: 4 }), (selector) =>
      assert.deepEqual(parseSelector(formatSelector(selector)), selector),
    ),
  );
});

test('LabelSelectors: labels and expressions together; the empty one matches everything', () => {
  const selector = fromLabelSelector({
    matchLabels: { a: '1' },
    matchExpressions: [{ key: 'b', operator: 'NotIn', values: ['x'] }],
  });
  assert.equal(matches(selector, { a: '1' }), true);
  assert.equal(matches(selector, { a: '1', b: 'x' }), false);
  assert.equal(matches(fromLabelSelector({}), undefined), true);
  assert.equal(matches(fromMap({ constructor: 'x' }), {}), false);
  assert.throws(() => fromLabelSelector({ matchExpressions: [{ key: 'a', operator: 'Near' }] }), TypeError);
});

test('field selectors see a missing field as the empty string', () => {
  const pod = { spec: { nodeName: 'n1' }, metadata: { name: 'a' } };
  assert.equal(matchesFields(parseFieldSelector('spec.nodeName=n1,status.phase!=Failed'), pod), true);
  assert.equal(matchesFields(parseFieldSelector('spec.nodeName='), { spec: {} }), true);
  assert.throws(() => parseFieldSelector('spec'), TypeError);
});
