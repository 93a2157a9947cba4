import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { list, object, string, stringMap, strings } from './schema.ts';
import { jsonMergePatch, StrategicPatchError, strategicMergePatch } from './strategic-merge.ts';

const item = object('t.v1.Item', { name: string(), value: string(), tags: strings() });
const schema = object('t.v1.Root', {
  items: list(item, { mergeKey: 'name' }),
  atomic: list(item),
  set: strings({ mergeKey: '' }),
  labels: stringMap(),
  choice: object('t.v1.Choice', { a: string(), b: string() }, { retainKeys: true }),
});

describe('strategic merge patch', () => {
  const cases: readonly [what: string, original: object, patch: Record<string, unknown>, expected: object][] = [
    [
      'maps merge, null removes',
      { labels: { a: '1', b: '2' } },
      { labels: { b: null, c: '3' } },
      { labels: { a: '1', c: '3' } },
    ],
    [
      'lists merge by key',
      {
        items: [
          { name: 'a', value: '1' },
          { name: 'b', value: '2' },
        ],
      },
      { items: [{ name: 'b', value: '3' }, { name: 'c' }] },
      { items: [{ name: 'a', value: '1' }, { name: 'b', value: '3' }, { name: 'c' }] },
    ],
    [
      'an item is deleted',
      { items: [{ name: 'a' }, { name: 'b' }] },
      { items: [{ name: 'a', $patch: 'delete' }] },
      { items: [{ name: 'b' }] },
    ],
    [
      'a list is replaced',
      { items: [{ name: 'a' }, { name: 'b' }] },
      { items: [{ $patch: 'replace' }, { name: 'c' }] },
      { items: [{ name: 'c' }] },
    ],
    [
      'an object is replaced',
      { labels: { a: '1' } },
      { labels: { $patch: 'replace', b: '2' } },
      { labels: { b: '2' } },
    ],
    ['an object is deleted', { choice: { a: '1' } }, { choice: { $patch: 'delete' } }, {}],
    ['other lists are replaced', { atomic: [{ name: 'a' }] }, { atomic: [{ name: 'b' }] }, { atomic: [{ name: 'b' }] }],
    ['sets merge', { set: ['a', 'b'] }, { set: ['b', 'c'] }, { set: ['a', 'b', 'c'] }],
    ['values leave a set', { set: ['a', 'b'] }, { '$deleteFromPrimitiveList/set': ['a'] }, { set: ['b'] }],
    [
      'an order is kept',
      { items: [{ name: 'a' }, { name: 'b' }] },
      { '$setElementOrder/items': [{ name: 'c' }, { name: 'b' }, { name: 'a' }], items: [{ name: 'c' }] },
      { items: [{ name: 'c' }, { name: 'b' }, { name: 'a' }] },
    ],
    [
      'only some keys are retained',
      { choice: { a: '1', b: '2' } },
      { choice: { $retainKeys: ['b'], b: '3' } },
      { choice: { b: '3' } },
    ],
    ['a null inside something new vanishes', {}, { items: [{ name: 'a', value: null }] }, { items: [{ name: 'a' }] }],
  ];
  for (const [what, original, patch, expected] of cases) {
    it(what, () => {
      const before = structuredClone(original);
      assert.deepEqual(strategicMergePatch(schema, original, patch), expected);
      assert.deepEqual(original, before, 'the original is not changed');
    });
  }

  it('needs the merge key', () => {
    assert.throws(() => strategicMergePatch(schema, {}, { items: [{ value: '1' }] }), StrategicPatchError);
    assert.throws(() => strategicMergePatch(schema, {}, { choice: { $patch: 'frobnicate' } }), StrategicPatchError);
  });

  it('never touches the prototype', () => {
    const patch = JSON.parse('{"labels":{"__proto__":{"polluted":"1"}}}') as Record<string, unknown>;
    strategicMergePatch(schema, {}, patch);
    jsonMergePatch({}, patch);
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  });
});

describe('JSON merge patch: the examples of RFC 7386, appendix A', () => {
  const cases: readonly [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, expected] of cases)
    it(`${JSON.stringify(target)} + ${JSON.stringify(patch)}`, () =>
      assert.deepEqual(jsonMergePatch(target, patch), expected));
});
