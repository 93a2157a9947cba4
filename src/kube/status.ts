/** Kubernetes' error form: a Status object with a reason, an HTTP code and, for invalid objects, causes by field path. */
import type { Status } from './types.ts';

/** The reasons of k8s.io/apimachinery/pkg/apis/meta/v1 and their HTTP codes. */
export const statusCodes = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  AlreadyExists: 409,
  Conflict: 409,
  Gone: 410,
  Expired: 410,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  ServiceUnavailable: 503,
  Timeout: 504,
  ServerTimeout: 500,
} as const;

export type StatusReason = keyof typeof statusCodes;

/** One cause of an Invalid status: reason FieldValueInvalid …, message, and the field's path. */
export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

/** An API request that failed, with the server's Status. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly status: Status;
  constructor(status: Status, cause?: unknown) {
    super(status.message ?? status.reason ?? 'unknown error', cause === undefined ? undefined : { cause });
    this.status = status;
  }

  get reason(): string {
    return this.status.reason ?? '';
  }

  /** The HTTP code. */
  get code(): number {
    return this.status.code ?? 500;
  }
}

/** Builds the error of a reason. */
export function statusError(reason: StatusReason, message: string, details?: Status['details']): StatusError {
  return new StatusError({
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    ...(details ? { details } : {}),
    code: statusCodes[reason],
  });
}

const hasReason =
  (...reasons: string[]) =>
  (error: unknown): error is StatusError =>
    error instanceof StatusError && reasons.includes(error.reason);

export const isNotFound = hasReason('NotFound');
export const isAlreadyExists = hasReason('AlreadyExists');
export const isConflict = hasReason('Conflict');
export const isInvalid = hasReason('Invalid');
/** The resourceVersion is too old: list again. */
export const isExpired = hasReason('Expired', 'Gone');
