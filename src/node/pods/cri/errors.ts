/** A CRI call that failed: which one, with which gRPC code, and what the runtime said. */
import { status } from '@grpc/grpc-js';

export type CriCode = keyof typeof status;

export class CriError extends Error {
  override readonly name = 'CriError';
  /** The CRI method: "RunPodSandbox" … */
  readonly operation: string;
  readonly code: CriCode;
  /** The runtime's own words. */
  readonly details: string;
  constructor(operation: string, code: CriCode, details: string, cause?: unknown) {
    super(`${operation}: ${details || code} (${code})`, cause === undefined ? undefined : { cause });
    this.operation = operation;
    this.code = code;
    this.details = details;
  }
}

const hasCode =
  (...codes: CriCode[]) =>
  (error: unknown): error is CriError =>
    error instanceof CriError && codes.includes(error.code);

export const isCriNotFound = hasCode('NOT_FOUND');
export const isCriUnavailable = hasCode('UNAVAILABLE');
export const isCriTimeout = hasCode('DEADLINE_EXCEEDED');
export const isCriCancelled = hasCode('CANCELLED');

/** The name of a gRPC code number. */
export function codeName(code: number): CriCode {
  return (status[code] as CriCode | undefined) ?? 'UNKNOWN';
}
