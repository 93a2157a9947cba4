import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeMessages } from '../netlink/reader.ts';
import { MessageWriter } from '../netlink/writer.ts';
import type { SetLayout } from './elements.ts';
import {
  decodeCounter,
  decodeElementCounters,
  encodeChainQuestion,
  encodeCounterQuestion,
  encodeElementsQuestion,
} from './questions.ts';

const CLASSES: SetLayout = { family: 'inet', table: 't', name: 's', key: ['classid'] };
const PLACE = { family: 'inet', table: 't' } as const;

/** The payload of one message. */
function written(write: (writer: MessageWriter) => void): { readonly hex: string; readonly payload: Buffer } {
  const writer = new MessageWriter();
  write(writer);
  const bytes = writer.finish(1);
  return { hex: bytes.toString('hex'), payload: Buffer.from(decodeMessages(bytes)[0]!.payload) };
}

describe('questions to nftables', () => {
  it('are messages of nfnetlink', () => {
    const table = '0600010074000000';
    const of = (type: string, flags: string, attributes: string) =>
      `${type}0a${flags}0100000000000000` + `01000000${table}${attributes}`;
    const chain = written((writer) => encodeChainQuestion(writer, PLACE, 'c')).hex;
    assert.equal(chain.slice(8), of('04', '0100', '0600030063000000'));
    const elements = written((writer) => encodeElementsQuestion(writer, CLASSES)).hex;
    assert.equal(elements.slice(8), of('0d', '0103', '0600020073000000'), 'a dump');
    const counter = written((writer) => encodeCounterQuestion(writer, PLACE, 'n')).hex;
    assert.equal(counter.slice(8), of('13', '0100', '060002006e0000000800030000000001'));
  });

  it('are answered with packets, by the element’s one expression or by one of several', () => {
    const packets = (count: number) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(BigInt(count));
      return bytes;
    };
    const { payload } = written((writer) => {
      const key = (hex: string) => writer.nest(1, () => writer.attr(1, Buffer.from(hex, 'hex')));
      const counter = (type: number, count: number) =>
        writer.nest(type, () =>
          writer.attrString(1, 'counter').nest(2, () => writer.attr(1, packets(1)).attr(2, packets(count))),
        );
      writer.message(0).u32(0).attrString(1, 't').attrString(2, 's');
      writer.nest(3, () => {
        writer.nest(1, () => {
          key('2f000100');
          counter(7, 5_000_000_000);
        });
        writer.nest(1, () => {
          key('01000000');
          writer.nest(11, () => {
            writer.nest(1, () => writer.attrString(1, 'limit').nest(2, () => writer.attr(2, packets(3))));
            counter(1, 4);
          });
        });
        writer.nest(1, () => key('02000000'));
      });
    });
    assert.deepEqual(decodeElementCounters(payload, CLASSES), [
      ['1:2f', 5_000_000_000],
      ['0:1', 4],
    ]);
    const named = written((writer) => {
      writer.message(0).u32(0).attrString(1, 't');
      writer.nest(4, () => writer.attr(1, packets(9)).attr(2, packets(8)));
    });
    assert.equal(decodeCounter(named.payload), 8);
    const nothing = written((writer) => void writer.message(0).u32(0).attrString(1, 't')).payload;
    assert.equal(decodeCounter(nothing), undefined);
    assert.deepEqual(decodeElementCounters(nothing, CLASSES), []);
  });
});
