/**
 * What the shim and the agent say to each other, and what of it the CNI specification 1.1.0 prescribes. Pure.
 *
 * The request is "podwire-cni/1 <bytes>\n" and as many bytes: NUL-terminated KEY=VALUE pairs, an empty string, the
 * network configuration. The answer is "<exit code> <bytes>\n" and as many bytes of JSON.
 */
import { isIPv4 } from 'node:net';
import { messageOf } from '../../base/errors.ts';

/** Result formats that are spoken; the newest is what is built, older ones are derived from it. */
export const SUPPORTED_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof SUPPORTED_VERSIONS)[number];

/** Error codes of the specification; from 100 on they are the plugin's own. */
export const CniErrorCode = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  containerUnknown: 3,
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  /** STATUS: ADD would fail. */
  notAvailable: 50,
  /** Something in the kernel, or no free address. */
  failed: 100,
  /** CHECK found something missing. */
  checkFailed: 101,
} as const;

export class CniError extends Error {
  override readonly name = 'CniError';
  readonly code: number;
  readonly details: string;
  constructor(code: number, message: string, options: { details?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? '';
  }
}

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const;
export type CniCommand = (typeof COMMANDS)[number];

export interface ValidAttachment {
  readonly containerID: string;
  readonly ifname: string;
}

/** The parts of the network configuration that are used. */
export interface NetworkConfig {
  readonly cniVersion: CniVersion;
  readonly name: string;
  /** Bytes; instead of the node's own choice. */
  readonly mtu: number | undefined;
  /** Passed through into the result. */
  readonly dns: Readonly<Record<string, unknown>>;
  /** CHECK: what ADD returned. */
  readonly prevResult: unknown;
  /** GC. */
  readonly validAttachments: readonly ValidAttachment[] | undefined;
}

export interface CniRequest {
  readonly command: CniCommand;
  readonly containerId: string;
  readonly ifname: string;
  /** CNI_NETNS as the runtime sees it: for the result, not to be opened here. */
  readonly netnsPath: string;
  /** Where this process can open it; undefined when it is gone or not needed. */
  readonly netnsHandle: string | undefined;
  /** The pod, from CNI_ARGS; empty texts when a runtime without Kubernetes calls. */
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly config: NetworkConfig;
}

/** The longest request, bytes; GC carries every attachment of a node. */
export const MAX_REQUEST_BYTES = 4 << 20;
const HEAD = /^podwire-cni\/1 (\d{1,9})\n/;
/** No head is longer. */
export const MAX_HEAD_BYTES = 32;

/** The request's length and where it begins; undefined when more bytes are needed. Throws CniError on garbage. */
export function decodeHead(bytes: Buffer): { readonly offset: number; readonly length: number } | undefined {
  const text = bytes.toString('latin1', 0, MAX_HEAD_BYTES);
  const match = HEAD.exec(text);
  if (!match) {
    if (bytes.length < MAX_HEAD_BYTES && !text.includes('\n')) return undefined;
    throw new CniError(CniErrorCode.decode, 'not a request of podwire-cni');
  }
  const length = Number(match[1]);
  if (length > MAX_REQUEST_BYTES) throw new CniError(CniErrorCode.decode, `a request of ${length} bytes is too long`);
  return { offset: match[0].length, length };
}

/** The bytes that the shim sends: for tests and other clients. */
export function encodeRequest(environment: Readonly<Record<string, string>>, config: string): Buffer {
  const pairs = Object.entries(environment).map(([key, value]) => `${key}=${value}\0`);
  const body = Buffer.from(`${pairs.join('')}\0${config}`);
  return Buffer.concat([Buffer.from(`podwire-cni/1 ${body.length}\n`), body]);
}

export function encodeAnswer(exitCode: number, json: unknown): Buffer {
  const body = Buffer.from(json === undefined ? '' : `${JSON.stringify(json)}\n`);
  return Buffer.concat([Buffer.from(`${exitCode} ${body.length}\n`), body]);
}

/** Splits a request's body. Throws CniError. */
export function splitBody(body: Buffer): { readonly environment: Map<string, string>; readonly config: string } {
  const environment = new Map<string, string>();
  let offset = 0;
  for (;;) {
    const end = body.indexOf(0, offset);
    if (end < 0) throw new CniError(CniErrorCode.decode, 'the request has no end of its variables');
    const pair = body.toString('utf8', offset, end);
    offset = end + 1;
    if (pair === '') return { environment, config: body.toString('utf8', offset) };
    const equals = pair.indexOf('=');
    if (equals > 0) environment.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
}

/** Decodes and validates a request's body. Throws CniError with the specification's codes. */
export function decodeRequest(body: Buffer): CniRequest {
  const { environment, config: configText } = splitBody(body);
  const config = parseConfig(configText);
  const command = parseCommand(environment.get('CNI_COMMAND'), config.cniVersion);
  const needs = REQUIRED[command];
  return {
    command,
    config,
    containerId: needs.container ? parseContainerId(environment.get('CNI_CONTAINERID')) : '',
    ifname: needs.container ? parseIfname(environment.get('CNI_IFNAME')) : '',
    netnsPath: parseNetnsPath(environment.get('CNI_NETNS'), needs.netns),
    netnsHandle: parseNetnsHandle(environment, needs.netns),
    pod: parsePod(environment.get('CNI_ARGS') ?? ''),
  };
}

const REQUIRED: Readonly<Record<CniCommand, { readonly container: boolean; readonly netns: boolean }>> = {
  ADD: { container: true, netns: true },
  CHECK: { container: true, netns: true },
  DEL: { container: true, netns: false },
  GC: { container: false, netns: false },
  STATUS: { container: false, netns: false },
};

/** The version in which a command came. */
const SINCE: Readonly<Partial<Record<CniCommand, CniVersion>>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

function invalid(variable: string, problem: string): CniError {
  return new CniError(CniErrorCode.invalidEnvironment, `${variable} ${problem}`);
}

function parseCommand(text: string | undefined, version: CniVersion): CniCommand {
  const command = COMMANDS.find((known) => known === text);
  if (!command) throw invalid('CNI_COMMAND', text === undefined ? 'is missing' : `is unknown: ${JSON.stringify(text)}`);
  const since = SINCE[command];
  if (since && SUPPORTED_VERSIONS.indexOf(version) < SUPPORTED_VERSIONS.indexOf(since)) {
    throw new CniError(CniErrorCode.incompatibleVersion, `${command} needs cniVersion ${since}, not ${version}`);
  }
  return command;
}

/** Specification, "Parameters": alphanumeric first, then also "_", "." and "-". */
function parseContainerId(text: string | undefined): string {
  if (!text) throw invalid('CNI_CONTAINERID', 'is missing');
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/.test(text)) throw invalid('CNI_CONTAINERID', `is invalid: ${show(text)}`);
  return text;
}

/** What the kernel takes as an interface's name (dev_valid_name in net/core/dev.c). */
function parseIfname(text: string | undefined): string {
  if (!text) throw invalid('CNI_IFNAME', 'is missing');
  const isValid = Buffer.byteLength(text) <= 15 && text !== '.' && text !== '..' && !/[/:\s]/.test(text);
  if (!isValid || text === 'lo') throw invalid('CNI_IFNAME', `is invalid: ${show(text)}`);
  return text;
}

function parseNetnsPath(text: string | undefined, required: boolean): string {
  if (required && !text) throw invalid('CNI_NETNS', 'is missing');
  return text ?? '';
}

function parseNetnsHandle(environment: ReadonlyMap<string, string>, required: boolean): string | undefined {
  const pid = environment.get('pid') ?? '';
  const fd = environment.get('netns_fd') ?? '';
  if (/^[1-9]\d{0,9}$/.test(pid) && /^\d{1,9}$/.test(fd)) return `/proc/${pid}/fd/${fd}`;
  if (required) throw invalid('CNI_NETNS', `cannot be opened: ${show(environment.get('CNI_NETNS') ?? '')}`);
  return undefined;
}

/** CNI_ARGS is "KEY=VALUE;KEY=VALUE"; Kubernetes' runtimes name the pod in it. */
function parsePod(text: string): CniRequest['pod'] {
  const args = new Map(text.split(';').map((pair) => pair.split(/=(.*)/s, 2) as [string, string]));
  const value = (name: string) => args.get(name) ?? '';
  return { namespace: value('K8S_POD_NAMESPACE'), name: value('K8S_POD_NAME'), uid: value('K8S_POD_UID') };
}

function parseConfig(text: string): NetworkConfig {
  const config = parseObject(text);
  const { name, mtu, dns } = config;
  if (typeof name !== 'string' || name === '') throw badConfig('"name" is missing');
  if (mtu !== undefined && !(Number.isInteger(mtu) && Number(mtu) >= 68 && Number(mtu) <= 65535)) {
    throw badConfig(`"mtu" must be a number from 68 to 65535, not ${show(mtu)}`);
  }
  if (dns !== undefined && !isObject(dns)) throw badConfig('"dns" must be an object');
  return {
    cniVersion: parseVersion(config['cniVersion']),
    name,
    mtu: mtu === undefined || mtu === 0 ? undefined : Number(mtu),
    dns: dns ?? {},
    prevResult: config['prevResult'],
    validAttachments: parseAttachments(config['cni.dev/valid-attachments']),
  };
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CniError(CniErrorCode.decode, 'the network configuration is no JSON', { details: messageOf(error) });
  }
  if (!isObject(value)) throw new CniError(CniErrorCode.decode, 'the network configuration is no JSON object');
  return value;
}

function parseVersion(value: unknown): CniVersion {
  const version = SUPPORTED_VERSIONS.find((known) => known === value);
  if (version) return version;
  throw new CniError(CniErrorCode.incompatibleVersion, `cniVersion ${show(value)} is not supported`, {
    details: `supported: ${SUPPORTED_VERSIONS.join(', ')}`,
  });
}

function parseAttachments(value: unknown): ValidAttachment[] | undefined {
  if (value === undefined) return undefined;
  const isList = Array.isArray(value) && value.every(isAttachment);
  if (!isList) throw badConfig('"cni.dev/valid-attachments" must be a list of {containerID, ifname}');
  return value;
}

function isAttachment(value: unknown): value is ValidAttachment {
  return isObject(value) && typeof value['containerID'] === 'string' && typeof value['ifname'] === 'string';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function badConfig(problem: string): CniError {
  return new CniError(CniErrorCode.invalidConfig, `invalid network configuration: ${problem}`);
}

/** A value for a message, cut to a length that a person reads. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** The result of ADD in the newest format (specification, "ADD Success"). */
export interface AddResult {
  readonly interfaces: readonly {
    readonly name: string;
    readonly mac: string;
    readonly mtu: number;
    readonly sandbox?: string;
  }[];
  readonly ips: readonly { readonly address: string; readonly gateway: string; readonly interface: number }[];
  readonly routes: readonly { readonly dst: string; readonly gw: string }[];
  readonly dns: Readonly<Record<string, unknown>>;
}

/** The result as the given version writes it: 1.1.0 added "mtu", 1.0.0 dropped the family of an address. */
export function renderResult(result: AddResult, cniVersion: CniVersion): Record<string, unknown> {
  const { interfaces, ips, routes, dns } = result;
  const isOld = cniVersion.startsWith('0.');
  return {
    cniVersion,
    interfaces: interfaces.map(({ mtu, ...rest }) => (cniVersion === '1.1.0' ? { ...rest, mtu } : rest)),
    ips: isOld ? ips.map((ip) => ({ version: isIPv4(ip.address.split('/')[0]!) ? '4' : '6', ...ip })) : ips,
    routes,
    dns,
  };
}

export function renderError(error: CniError, cniVersion: string): Record<string, unknown> {
  const { code, message, details } = error;
  return { cniVersion, code, msg: message, ...(details === '' ? {} : { details }) };
}
