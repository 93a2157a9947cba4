/** What a container leaves to be read after its end: its termination message file, or the end of its log. */
import { open } from 'node:fs/promises';
import { codeOf } from '../../../base/errors.ts';
import type { ContainerRecord } from '../state/pod-runtime.ts';
import { messageFile } from './container-mounts.ts';

/** Bytes; the kubelet's limits. */
const MAX_MESSAGE = 4096;
const MAX_LOG_BYTES = 2048;
const MAX_LOG_LINES = 80;

interface MessageSource {
  /** On the node's disk. */
  readonly messageFile: string;
  readonly logFile: string;
  readonly policy: string;
  readonly exitCode: number;
}

/** The record of a container that has ended, with what it left to be read. */
export async function withTerminationMessage(record: ContainerRecord, podDir: string): Promise<ContainerRecord> {
  const message = await terminationMessage({
    messageFile: messageFile(podDir, record.name, record.attempt),
    logFile: record.logPath,
    policy: record.terminationPolicy,
    exitCode: record.exitCode,
  });
  return message ? { ...record, message } : record;
}

async function terminationMessage(source: MessageSource): Promise<string> {
  const message = await readTail(source.messageFile, MAX_MESSAGE);
  if (message || source.policy !== 'FallbackToLogsOnError' || source.exitCode === 0) return message;
  return logMessage(await readTail(source.logFile, 4 * MAX_LOG_BYTES));
}

/** The text of the last lines of a CRI log: "<time> stdout|stderr F|P <text>". Pure. */
export function logMessage(log: string): string {
  const lines = log.split('\n').filter((line) => /^\S+ (stdout|stderr) \S+ /.test(line));
  const texts = lines.slice(-MAX_LOG_LINES).map((line) => {
    const [, , tag] = line.split(' ', 3);
    const text = line.replace(/^\S+ \S+ \S+ /, '');
    return tag === 'P' ? text : `${text}\n`;
  });
  return texts.join('').slice(-MAX_LOG_BYTES);
}

/** The last bytes of a file; empty when there is none. */
async function readTail(path: string, bytes: number): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const length = Math.min(size, bytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.subarray(0, bytesRead).toString();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return '';
    throw error;
  }
}
