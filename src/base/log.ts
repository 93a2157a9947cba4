/** Structured logs: one line of JSON per event on standard error, through pino. */
import { pino } from 'pino';

export interface Logger {
  debug(fields: object | string, message?: string): void;
  info(fields: object | string, message?: string): void;
  warn(fields: object | string, message?: string): void;
  error(fields: object | string, message?: string): void;
  child(fields: Record<string, unknown>): Logger;
}

/** The logger of a role, with the level of PODWIRE_LOG (debug, info, warn, error, silent), default info. */
export function createLogger(role: string, fields: Record<string, unknown> = {}): Logger {
  return pino(
    {
      level: process.env['PODWIRE_LOG'] ?? 'info',
      base: { role, ...fields },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { error: pino.stdSerializers.err },
    },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A logger that says nothing: for tests and for libraries whose caller wants silence. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
};
