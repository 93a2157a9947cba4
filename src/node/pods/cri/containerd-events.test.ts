import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeTaskEvent } from './containerd-events.ts';

test('task events: the fields that name a container and a process', () => {
  // containerd.events.TaskExit { container_id: "abc", id: "ex", pid: 300, exit_status: 1 }, as protobuf encodes it.
  const exit = Uint8Array.from([0x0a, 3, 97, 98, 99, 0x12, 2, 101, 120, 0x18, 0xac, 2, 0x20, 1]);
  assert.deepEqual(decodeTaskEvent('/tasks/exit', exit), { containerId: 'abc', id: 'ex' });
  // TaskDelete { container_id: "abc", pid: 5, id: "abc" }
  const end = Uint8Array.from([0x0a, 3, 97, 98, 99, 0x10, 5, 0x2a, 3, 97, 98, 99]);
  assert.deepEqual(decodeTaskEvent('/tasks/delete', end), { containerId: 'abc', id: 'abc' });
  assert.deepEqual(decodeTaskEvent('/tasks/oom', end.subarray(0, 5)), { containerId: 'abc', id: '' });
});
