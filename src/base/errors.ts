/** Errors that are meant for people, and the few predicates that all layers share. */

/** Exit codes of the command line. */
export const ExitCode = { ok: 0, failure: 1, usage: 2, refused: 3 } as const;

/**
 * Something that the user can mend: one line that says what is wrong, one that says what to do next.
 * The command line prints both and exits with the code, without a stack trace.
 */
export class UserError extends Error {
  override readonly name = 'UserError';
  readonly hint: string | undefined;
  readonly exitCode: number;
  constructor(message: string, options: { hint?: string; exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? ExitCode.failure;
  }
}

/** Whether the error is what an AbortSignal throws. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError');
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Node's error code (ENOENT …) of whatever was thrown, if it has one. */
export function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}
