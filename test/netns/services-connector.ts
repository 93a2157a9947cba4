/**
 * A client in a process of its own: `node services-connector.ts ADDRESS PORT COUNT [PAUSE]` connects, with so many milliseconds
 * between two connects, and prints what it met.
 */
import { hasCode } from '../../src/linux/errors.ts';
import { closeFd, connectTcpSync } from '../../src/linux/sockets.ts';

const [address, port, count, pause = '0'] = process.argv.slice(2) as [string, string, string, string?];
const clock = new Int32Array(new SharedArrayBuffer(4));
const met = { connected: 0, refused: 0, other: 0 };
for (let i = 0; i < Number(count); i++) {
  try {
    closeFd(connectTcpSync({ address, port: Number(port), timeoutMs: 5000 }));
    met.connected++;
  } catch (error) {
    if (hasCode(error, 'ECONNREFUSED')) met.refused++;
    else met.other++;
  }
  if (pause !== '0') Atomics.wait(clock, 0, 0, Number(pause));
}
process.stdout.write(JSON.stringify(met));
