/** The gRPC health protocol (grpc.health.v1.Health/Check), encoded by hand: two fields in all. */
import { Client, credentials } from '@grpc/grpc-js';

/** HealthCheckResponse.ServingStatus.SERVING */
const SERVING = 1;

/** Resolves to whether the service says that it serves; rejects when it cannot be asked in time. */
export function grpcServing(address: string, service: string, timeoutMs: number): Promise<boolean> {
  const client = new Client(address, credentials.createInsecure(), { 'grpc.enable_retries': 0 });
  return new Promise<boolean>((resolve, reject) => {
    client.makeUnaryRequest(
      '/grpc.health.v1.Health/Check',
      encodeRequest,
      decodeStatus,
      service,
      { deadline: Date.now() + timeoutMs },
      (error, status) => (error ? reject(error) : resolve(status === SERVING)),
    );
  }).finally(() => client.close());
}

/** HealthCheckRequest { string service = 1; } */
function encodeRequest(service: string): Buffer {
  const name = Buffer.from(service);
  if (name.length === 0) return name;
  const length = name.length < 128 ? [name.length] : [(name.length & 0x7f) | 0x80, name.length >> 7];
  return Buffer.concat([Buffer.from([0x0a, ...length]), name]);
}

/** HealthCheckResponse { ServingStatus status = 1; } */
function decodeStatus(bytes: Buffer): number {
  return bytes[0] === 0x08 ? (bytes[1] ?? 0) : 0;
}
