/** PodLogOptions: the query of a pod's log, validated as Kubernetes does (ValidatePodLogOptions). Pure. */
import { type StatusCause, type StatusError, statusError } from '../../kube/status.ts';

export interface PodLogOptions {
  readonly container: string;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  readonly sinceSeconds?: number;
  /** RFC 3339. */
  readonly sinceTime?: string;
  readonly tailLines?: number;
  readonly limitBytes?: number;
  readonly stream?: string;
}

/** Throws BadRequest for what does not parse, Invalid for values out of their range. */
export function parsePodLogOptions(pod: string, query: URLSearchParams): PodLogOptions {
  const options: PodLogOptions = {
    container: query.get('container') ?? '',
    follow: queryBoolean(query, 'follow'),
    previous: queryBoolean(query, 'previous'),
    timestamps: queryBoolean(query, 'timestamps'),
    sinceSeconds: queryInteger(query, 'sinceSeconds'),
    sinceTime: queryTime(query, 'sinceTime'),
    tailLines: queryInteger(query, 'tailLines'),
    limitBytes: queryInteger(query, 'limitBytes'),
    stream: query.get('stream') || undefined,
  };
  const causes = problemsOf(options);
  if (causes.length > 0) throw invalidOptions(pod, causes);
  return options;
}

/** The same options in the kubelet's query form. The container is part of the kubelet's path. */
export function kubeletLogQuery(options: PodLogOptions): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of ['follow', 'previous', 'timestamps'] as const) if (options[name]) query.set(name, 'true');
  for (const name of ['sinceSeconds', 'sinceTime', 'tailLines', 'limitBytes', 'stream'] as const) {
    if (options[name] !== undefined) query.set(name, String(options[name]));
  }
  return query;
}

/**
 * Kubernetes' reading of a boolean in a query: only absence, "false" and "0" are false
 * (k8s.io/apimachinery/pkg/runtime, Convert_Slice_string_To_bool).
 */
export function queryBoolean(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  return value !== null && value !== '0' && value.toLowerCase() !== 'false';
}

function queryInteger(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^[+-]?\d+$/.test(text)) {
    throw statusError('BadRequest', `strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  }
  const value = Number(text);
  if (!Number.isSafeInteger(value)) {
    throw statusError('BadRequest', `strconv.ParseInt: parsing ${JSON.stringify(text)}: value out of range`);
  }
  return value;
}

/** RFC 3339 with any fraction. The text is kept: a log's time stamps have nanoseconds, Date has not. */
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

function queryTime(query: URLSearchParams, name: string): string | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (RFC3339.test(text) && !Number.isNaN(Date.parse(text))) return text;
  throw statusError('BadRequest', `parsing time ${JSON.stringify(text)} as "2006-01-02T15:04:05Z07:00": cannot parse`);
}

const streams = ['All', 'Stdout', 'Stderr'];

function problemsOf(options: PodLogOptions): StatusCause[] {
  const { tailLines, limitBytes, sinceSeconds, sinceTime, stream } = options;
  const causes: StatusCause[] = [];
  if (tailLines !== undefined && tailLines < 0)
    causes.push(badValue('tailLines', tailLines, 'must be greater than or equal to 0'));
  if (limitBytes !== undefined && limitBytes < 1)
    causes.push(badValue('limitBytes', limitBytes, 'must be greater than 0'));
  if (sinceSeconds !== undefined && sinceTime !== undefined)
    causes.push(forbidden('at most one of `sinceTime` or `sinceSeconds` may be specified'));
  if (sinceSeconds !== undefined && sinceSeconds < 1)
    causes.push(badValue('sinceSeconds', sinceSeconds, 'must be greater than 0'));
  if (stream !== undefined && !streams.includes(stream)) causes.push(unsupportedStream(stream));
  else if (tailLines !== undefined && stream !== undefined && stream !== 'All')
    causes.push(forbidden('`tailLines` and specific `stream` are mutually exclusive for now'));
  return causes;
}

const badValue = (field: string, value: number, message: string): StatusCause => ({
  reason: 'FieldValueInvalid',
  field,
  message: `Invalid value: ${value}: ${message}`,
});

const forbidden = (message: string): StatusCause => ({
  reason: 'FieldValueForbidden',
  field: '',
  message: `Forbidden: ${message}`,
});

const unsupportedStream = (stream: string): StatusCause => ({
  reason: 'FieldValueNotSupported',
  field: 'stream',
  message: `Unsupported value: ${JSON.stringify(stream)}: supported values: ${streams.map((s) => `"${s}"`).join(', ')}`,
});

function invalidOptions(name: string, causes: StatusCause[]): StatusError {
  const texts = causes.map(({ field, message }) => (field ? `${field}: ${message}` : message));
  const list = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return statusError('Invalid', `PodLogOptions ${JSON.stringify(name)} is invalid: ${list}`, {
    name,
    kind: 'PodLogOptions',
    causes,
  });
}
