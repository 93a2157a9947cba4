import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { Writable } from 'node:stream';
import { describe, it } from 'node:test';
import { StoredObject } from '../cache/stored-object.ts';
import { configMap } from '../resources/config-map.ts';
import type { Existing } from '../resources/kind.ts';
import { EventEncoder, WatchStream } from './watch-stream.ts';

/** A response whose client reads only when told to. */
class Client extends Writable {
  readonly received: string[] = [];
  #waiting: (() => void) | undefined;
  isReading = true;

  constructor() {
    super({ highWaterMark: 200 });
  }

  writeHead(): this {
    return this;
  }

  flushHeaders(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.received.push(chunk.toString());
    if (this.isReading) done();
    else this.#waiting = done;
  }

  read(): void {
    this.isReading = true;
    this.#waiting?.();
  }
}

const stored = (name: string) =>
  new StoredObject(
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, resourceVersion: '1' } } as unknown as Existing,
    1,
  );

function open(maxQueue?: number) {
  const client = new Client();
  const stream = new WatchStream(
    client as unknown as ServerResponse,
    new EventEncoder(configMap, 'object', 'None'),
    maxQueue,
  );
  return { client, stream };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const namesIn = (client: Client) =>
  client.received
    .join('')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line).object.metadata.name as string);

describe('the stream of a watch', () => {
  it('writes events in order, as one frame shared by all', async () => {
    const { client, stream } = open();
    const one = stored('a');
    stream.push('ADDED', one);
    stream.push('MODIFIED', stored('b'));
    await settled();
    assert.deepEqual(namesIn(client), ['a', 'b']);
    assert.equal(one.frame('ADDED'), one.frame('ADDED'));
    stream.end();
    await stream.closed;
  });

  it('waits for a slow client and loses nothing within the bound', async () => {
    const { client, stream } = open(100);
    client.isReading = false;
    const names = Array.from({ length: 50 }, (_, i) => `n${i}`);
    for (const name of names) {
      stream.push('ADDED', stored(name));
      await settled();
    }
    assert.ok(client.received.length < 50);
    client.read();
    await settled();
    await settled();
    assert.deepEqual(namesIn(client), names);
    stream.end();
    await stream.closed;
  });

  it('cuts off a client that does not read', async () => {
    const { client, stream } = open(10);
    client.isReading = false;
    for (let i = 0; i < 40; i++) {
      stream.push('ADDED', stored(`n${i}`));
      await settled();
    }
    await stream.closed;
    assert.ok(client.destroyed);
  });

  it('does not count the initial state against the bound', async () => {
    const { client, stream } = open(10);
    client.isReading = false;
    for (let i = 0; i < 40; i++) stream.pushInitial('ADDED', stored(`n${i}`));
    await settled();
    assert.ok(!client.destroyed);
    client.read();
    await settled();
    stream.end();
    await stream.closed;
    assert.equal(namesIn(client).length, 40);
  });

  it('tells of an error as its last event', async () => {
    const { client, stream } = open();
    stream.fail({ code: 410 });
    await stream.closed;
    assert.deepEqual(JSON.parse(client.received.join('')), { type: 'ERROR', object: { code: 410 } });
  });
});
