/** Tokens of service accounts for projected volumes: asked for once, and again before they run out. */
import type { Clock } from '../../../base/clock.ts';
import type { corev1, Pod } from '../../../kube/types.ts';
import { ContainerConfigError } from '../config-error.ts';

export interface TokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Empty: the API server itself. */
  readonly audiences: readonly string[];
  readonly expirationSeconds: number;
  /** The token ends with this pod. */
  readonly pod: { readonly name: string; readonly uid: string };
}

export interface IssuedToken {
  readonly token: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** POST …/serviceaccounts/<name>/token; wired by cmd. */
export interface TokenSource {
  requestToken(request: TokenRequest): Promise<IssuedToken>;
}

/** What a projection asks for when it names no time (one hour). */
const DEFAULT_EXPIRATION_SECONDS = 3600;
/** A token is replaced when this part of its life is over, or after a day, as in the kubelet. */
const REFRESH_PART = 0.8;
const LONGEST_MS = 24 * 3600_000;

interface Cached extends IssuedToken {
  readonly refreshAt: number;
}

export class TokenCache {
  readonly #source: TokenSource | undefined;
  readonly #clock: Clock;
  readonly #tokens = new Map<string, Map<string, Cached>>();

  constructor(source: TokenSource | undefined, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
  }

  /** The tokens of a projected volume by the index of their source. */
  async forVolume(pod: Pod, volume: corev1.Volume): Promise<ReadonlyMap<number, string>> {
    const tokens = new Map<number, string>();
    for (const [index, { serviceAccountToken }] of (volume.projected?.sources ?? []).entries())
      if (serviceAccountToken) tokens.set(index, await this.#token(pod, serviceAccountToken));
    return tokens;
  }

  refreshAt(uid: string): number | undefined {
    const times = [...(this.#tokens.get(uid)?.values() ?? [])].map(({ refreshAt }) => refreshAt);
    return times.length ? Math.min(...times) : undefined;
  }

  forget(uid: string): void {
    this.#tokens.delete(uid);
  }

  async #token(pod: Pod, projection: corev1.ServiceAccountTokenProjection): Promise<string> {
    if (!this.#source) throw new ContainerConfigError('this node cannot get service account tokens');
    const { uid, name, namespace } = pod.metadata;
    const key = JSON.stringify([projection.audience, projection.expirationSeconds]);
    const cached = this.#tokens.get(uid)?.get(key);
    const now = this.#clock.now();
    if (cached && cached.refreshAt > now) return cached.token;
    try {
      const issued = await this.#source.requestToken({
        namespace,
        serviceAccount: pod.spec.serviceAccountName ?? 'default',
        audiences: projection.audience ? [projection.audience] : [],
        expirationSeconds: projection.expirationSeconds ?? DEFAULT_EXPIRATION_SECONDS,
        pod: { name, uid },
      });
      const refreshAt = now + Math.min(LONGEST_MS, (issued.expiresAt - now) * REFRESH_PART);
      const ofPod = this.#tokens.get(uid) ?? new Map<string, Cached>();
      this.#tokens.set(uid, ofPod.set(key, { ...issued, refreshAt }));
      return issued.token;
    } catch (error) {
      // An old token that still holds is better than none.
      if (cached && cached.expiresAt > now) return cached.token;
      throw error;
    }
  }
}
