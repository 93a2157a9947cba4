/** The naming rules of Kubernetes (k8s.io/apimachinery/pkg/util/validation and api/validation), each as messages. */
import { cidrContains, isIp, parseCidr, parseIp } from '../../base/ip.ts';

type Messages = readonly string[];

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

const regexError = (message: string, format: string, ...examples: readonly string[]): string =>
  `${message} (e.g. ${examples.map((example) => `'${example}', `).join(' or ')}regex used for validation is '${format}')`;

const maxLength = (value: string, most: number): Messages =>
  value.length > most ? [`must be no more than ${most} ${most === 1 ? 'byte' : 'bytes'}`] : [];

/** RFC 1123 label: namespaces, container names. */
export function dns1123Label(value: string): Messages {
  const errors = [...maxLength(value, 63)];
  if (!LABEL.test(value)) {
    errors.push(
      regexError(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
        '[a-z0-9]([-a-z0-9]*[a-z0-9])?',
        'my-name',
        '123-abc',
      ),
    );
  }
  return errors;
}

/** RFC 1123 subdomain: most objects' names. */
export function dns1123Subdomain(value: string): Messages {
  const errors = [...maxLength(value, 253)];
  if (!SUBDOMAIN.test(value)) {
    errors.push(
      regexError(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*',
        'example.com',
      ),
    );
  }
  return errors;
}

/** RFC 1035 label: Service names. */
export function dns1035Label(value: string): Messages {
  const errors = [...maxLength(value, 63)];
  if (!LABEL_1035.test(value)) {
    errors.push(
      regexError(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
        '[a-z]([-a-z0-9]*[a-z0-9])?',
        'my-name',
        'abc-123',
      ),
    );
  }
  return errors;
}

/** Label and annotation keys: an optional DNS subdomain prefix and a name of up to 63 characters. */
export function qualifiedName(value: string): Messages {
  const parts = value.split('/');
  const errors: string[] = [];
  let name = parts[0]!;
  if (parts.length === 2) {
    const prefix = parts[0]!;
    name = parts[1]!;
    if (prefix === '') errors.push('prefix part must be non-empty');
    else errors.push(...dns1123Subdomain(prefix).map((message) => `prefix part ${message}`));
  } else if (parts.length > 2) {
    return [
      `a qualified name ${regexError("must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character", '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]', 'MyName', 'my.name', '123-abc')} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  if (name === '') errors.push('name part must be non-empty');
  else if (name.length > 63) errors.push('name part must be no more than 63 bytes');
  if (!QUALIFIED.test(name)) {
    errors.push(
      `name part ${regexError("must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character", '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]', 'MyName', 'my.name', '123-abc')}`,
    );
  }
  return errors;
}

export function labelValue(value: string): Messages {
  const errors = [...maxLength(value, 63)];
  if (value !== '' && !QUALIFIED.test(value)) {
    errors.push(
      regexError(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?',
        'MyValue',
        'my_value',
        '12345',
      ),
    );
  }
  return errors;
}

/** Names of keys in ConfigMaps and Secrets. */
export function configMapKey(value: string): Messages {
  const errors = [...maxLength(value, 253)];
  if (!/^[-._a-zA-Z0-9]+$/.test(value)) {
    errors.push(
      regexError(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        '[-._a-zA-Z0-9]+',
        'key.name',
        'KEY_NAME',
        'key-name',
      ),
    );
  } else if (value === '.') errors.push("must not be '.'");
  else if (value === '..') errors.push("must not be '..'");
  else if (value.startsWith('..')) errors.push("must not start with '..'");
  return errors;
}

/** Names of environment variables: any printable ASCII character except "=" (RelaxedEnvironmentVariableValidation). */
export function envVarName(value: string): Messages {
  return /^[ -<>-~]+$/.test(value)
    ? []
    : ["a valid environment variable name must consist only of printable ASCII characters other than '='"];
}

export function portNumber(value: number): Messages {
  return Number.isInteger(value) && value >= 1 && value <= 65535 ? [] : ['must be between 1 and 65535, inclusive'];
}

/** IANA_SVC_NAME: names of container ports. */
export function portName(value: string): Messages {
  const errors: string[] = [];
  if (value.length > 15) errors.push('must be no more than 15 characters');
  if (!/^[-a-z0-9]+$/.test(value))
    errors.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  if (!/[a-z]/.test(value)) errors.push('must contain at least one letter (a-z)');
  if (value.includes('--')) errors.push('must not contain consecutive hyphens');
  if (value.startsWith('-') || value.endsWith('-')) errors.push('must not begin or end with a hyphen');
  return errors;
}

export function ipAddress(value: string): Messages {
  return isIp(value) ? [] : ['must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'];
}

/** Ranges that lead to no other machine, with the words in which Kubernetes' ValidateNonSpecialIP refuses them. */
const SPECIAL_RANGES: readonly (readonly [cidrs: readonly string[], message: string])[] = [
  [['0.0.0.0/32', '::/128'], 'may not be unspecified (0.0.0.0 or ::)'],
  [['127.0.0.0/8', '::1/128'], 'may not be in the loopback range (127.0.0.0/8, ::1/128)'],
  [['169.254.0.0/16', 'fe80::/10'], 'may not be in the link-local range (169.254.0.0/16, fe80::/10)'],
  [['224.0.0.0/24', 'ff02::/16'], 'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)'],
];
const specialRanges = SPECIAL_RANGES.map(([cidrs, message]) => ({ cidrs: cidrs.map(parseCidr), message }));

/** An address that packets of others can be sent to. */
export function nonSpecialIp(value: string): Messages {
  const messages = ipAddress(value);
  if (messages.length > 0) return messages;
  const address = parseIp(value);
  return specialRanges
    .filter(({ cidrs }) => cidrs.some((cidr) => cidrContains(cidr, address)))
    .map(({ message }) => message);
}
