/**
 * Gets images for containers by their pull policy. Pulls of the same image at the same time are one pull; an image that
 * cannot be had is tried again with a growing wait (10 s … 300 s), as the kubelet does.
 */
import type { Clock } from '../../../base/clock.ts';
import { messageOf } from '../../../base/errors.ts';
import type { corev1, Secret } from '../../../kube/types.ts';
import { CriError, isCriCancelled } from '../cri/errors.ts';
import type { CriRuntime } from '../cri/runtime.ts';
import type { Image } from '../cri/types.ts';
import { RestartBackoff } from '../state/restart-backoff.ts';
import { defaultPullPolicy, type ImageName, parseImageName } from './image-name.ts';
import { findCredentials } from './pull-secrets.ts';

export type ImageErrorReason =
  | 'ErrImagePull'
  | 'ImagePullBackOff'
  | 'ErrImageNeverPull'
  | 'InvalidImageName'
  | 'ImageInspectError';

export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly reason: ImageErrorReason;
  /** When to try again. */
  readonly retryMs: number;
  constructor(reason: ImageErrorReason, message: string, retryMs: number, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
    this.retryMs = retryMs;
  }
}

export interface ImageManagerOptions {
  readonly runtime: CriRuntime;
  readonly clock: Clock;
  /**
   * Whether registries can be reached. Where they cannot (an isolated cluster), policy Always uses an image that is
   * there: asking a registry for a newer one could only fail.
   */
  readonly registries: 'reachable' | 'isolated';
}

export interface ReadyImage {
  readonly image: Image;
  /** Set when it was pulled now. */
  readonly pulledMs?: number;
}

export interface PullRequest {
  readonly container: corev1.Container;
  readonly pullSecrets: () => Promise<readonly Secret[]>;
  readonly signal: AbortSignal;
  readonly onPulling: () => void;
}

/** A policy of Never or a malformed name is looked at again this often: somebody may load the image. */
const RECHECK_MS = 5_000;

export class ImageManager {
  readonly #options: ImageManagerOptions;
  readonly #backoff = new RestartBackoff();
  readonly #failed = new Map<string, { readonly at: number; readonly message: string }>();
  readonly #pulls = new Map<string, Promise<Image>>();

  constructor(options: ImageManagerOptions) {
    this.#options = options;
  }

  /** Rejects with ImageError. */
  async ensure(request: PullRequest): Promise<ReadyImage> {
    const name = request.container.image ?? '';
    const parsed = parse(name);
    const policy = request.container.imagePullPolicy ?? defaultPullPolicy(name);
    const present = await this.#present(name);
    if (policy === 'Never' && !present)
      throw new ImageError(
        'ErrImageNeverPull',
        `Container image ${JSON.stringify(name)} is not present with pull policy of Never`,
        RECHECK_MS,
      );
    const fresh = policy === 'Always' && this.#options.registries === 'reachable';
    if (present && !fresh) {
      this.#backoff.forget(name);
      return { image: present };
    }
    return this.#pull(name, parsed, request);
  }

  async #present(name: string): Promise<Image | undefined> {
    try {
      return await this.#options.runtime.imageStatus(name);
    } catch (error) {
      throw new ImageError(
        'ImageInspectError',
        `Failed to inspect image ${JSON.stringify(name)}: ${messageOf(error)}`,
        RECHECK_MS,
        error,
      );
    }
  }

  async #pull(name: string, parsed: ImageName, request: PullRequest): Promise<ReadyImage> {
    const { clock } = this.#options;
    const failed = this.#failed.get(name);
    const wait = failed ? this.#backoff.remaining(name, failed.at, clock.now()) : 0;
    if (failed && wait > 0)
      throw new ImageError(
        'ImagePullBackOff',
        `Back-off pulling image ${JSON.stringify(name)}: ${failed.message}`,
        wait,
      );
    const started = clock.now();
    request.onPulling();
    try {
      const auth = findCredentials(await request.pullSecrets(), parsed.registry);
      const key = JSON.stringify([name, auth]);
      const running = this.#pulls.get(key) ?? this.#startPull(key, name, auth);
      const image = await abortable(running, request.signal);
      this.#backoff.forget(name);
      this.#failed.delete(name);
      return { image, pulledMs: clock.now() - started };
    } catch (error) {
      if (request.signal.aborted || isCriCancelled(error)) throw error;
      const now = clock.now();
      this.#backoff.retried(name, failed?.at ?? now, now);
      const details = error instanceof CriError ? error.details : messageOf(error);
      const message = `failed to pull image ${JSON.stringify(name)}: ${details}`;
      this.#failed.set(name, { at: now, message: `ErrImagePull: ${message}` });
      throw new ImageError('ErrImagePull', message, this.#backoff.delay(name), error);
    }
  }

  #startPull(key: string, name: string, auth: ReturnType<typeof findCredentials>): Promise<Image> {
    const { runtime } = this.#options;
    const pull = (async () => {
      const reference = await runtime.pullImage(name, auth ? { auth } : {});
      const image = await runtime.imageStatus(reference);
      if (!image) throw new Error(`image ${name} vanished after it was pulled`);
      return image;
    })();
    this.#pulls.set(key, pull);
    const forget = () => this.#pulls.delete(key);
    pull.then(forget, forget);
    return pull;
  }
}

function parse(name: string): ImageName {
  try {
    return parseImageName(name);
  } catch (error) {
    throw new ImageError(
      'InvalidImageName',
      `Failed to apply default image tag ${JSON.stringify(name)}: ${messageOf(error)}`,
      RECHECK_MS,
    );
  }
}

/** Stops waiting when the signal aborts; the work itself goes on for whoever else waits. */
function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
