/** Security contexts of pod and container -> the CRI's. Pure. */
import type { corev1, Pod } from '../../../kube/types.ts';
import { ContainerConfigError } from '../config-error.ts';
import type {
  LinuxContainerSecurityContext,
  LinuxSandboxSecurityContext,
  NamespaceOption,
  SecurityProfile,
} from '../cri/types.ts';

/** What containers must not see of /proc and /sys, as the kubelet's defaults (pkg/securitycontext/util.go). */
const MASKED_PATHS = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** The user an image runs as. */
export interface ImageUser {
  readonly uid: number | undefined;
  readonly username: string;
}

export function namespaceOptions(pod: Pod): NamespaceOption {
  const { hostNetwork, hostPID, hostIPC, shareProcessNamespace } = pod.spec;
  return {
    network: hostNetwork ? 'NODE' : 'POD',
    pid: hostPID ? 'NODE' : shareProcessNamespace ? 'POD' : 'CONTAINER',
    ipc: hostIPC ? 'NODE' : 'POD',
  };
}

function seccompProfile(profile: corev1.SeccompProfile | undefined): SecurityProfile {
  switch (profile?.type) {
    case 'RuntimeDefault':
      return { profileType: 'RuntimeDefault' };
    case 'Localhost':
      return { profileType: 'Localhost', localhostRef: profile.localhostProfile ?? '' };
    default:
      return { profileType: 'Unconfined' };
  }
}

const int64 = (value: number | undefined) => (value === undefined ? undefined : { value });

/**
 * The filter of the sandbox's own process. The kubelet always asks for the runtime's default one, whose compilation takes
 * 15 ms of each start. Here it is asked for where it can matter: that process is podwire's pause program, which only waits, and
 * nobody can take it over unless others share its process namespace.
 */
function sandboxSeccomp(pod: Pod, { pid }: NamespaceOption): SecurityProfile {
  const isAlone = pid === 'CONTAINER' && !pod.spec.securityContext?.seccompProfile;
  return { profileType: isAlone ? 'Unconfined' : 'RuntimeDefault' };
}

export function sandboxSecurity(pod: Pod): LinuxSandboxSecurityContext {
  const context = pod.spec.securityContext;
  const options = namespaceOptions(pod);
  return {
    namespaceOptions: options,
    runAsUser: int64(context?.runAsUser),
    // The CRI refuses a group without a user.
    runAsGroup: context?.runAsUser === undefined ? undefined : int64(context.runAsGroup),
    supplementalGroups: supplementalGroups(pod),
    privileged: pod.spec.containers.some((container) => container.securityContext?.privileged),
    seccomp: sandboxSeccomp(pod, options),
  };
}

export function supplementalGroups(pod: Pod): readonly number[] {
  const context = pod.spec.securityContext;
  const groups = [...(context?.supplementalGroups ?? [])];
  if (context?.fsGroup !== undefined) groups.push(context.fsGroup);
  return groups;
}

/** Capability names without the prefix that some people write. */
const capability = (name: string) => name.replace(/^CAP_/, '');

export function containerSecurity(
  pod: Pod,
  container: corev1.Container,
  image: ImageUser,
): LinuxContainerSecurityContext {
  const own = container.securityContext;
  const ofPod = pod.spec.securityContext;
  const runAsUser = own?.runAsUser ?? ofPod?.runAsUser;
  const runAsGroup = own?.runAsGroup ?? ofPod?.runAsGroup;
  if (own?.runAsNonRoot ?? ofPod?.runAsNonRoot) checkNonRoot(runAsUser, image);
  const unmasked = own?.procMount === 'Unmasked';
  return {
    namespaceOptions: namespaceOptions(pod),
    privileged: own?.privileged ?? false,
    capabilities: {
      addCapabilities: (own?.capabilities?.add ?? []).map(capability),
      dropCapabilities: (own?.capabilities?.drop ?? []).map(capability),
    },
    ...userFields(runAsUser, runAsGroup, image),
    readonlyRootfs: own?.readOnlyRootFilesystem ?? false,
    supplementalGroups: supplementalGroups(pod),
    noNewPrivs: own?.allowPrivilegeEscalation === false && !own.privileged,
    maskedPaths: unmasked ? [] : MASKED_PATHS,
    readonlyPaths: unmasked ? [] : READONLY_PATHS,
    seccomp: own?.privileged
      ? { profileType: 'Unconfined' }
      : seccompProfile(own?.seccompProfile ?? ofPod?.seccompProfile),
  };
}

/** The CRI takes a group only beside a user: the image's own user then stands in. */
function userFields(runAsUser: number | undefined, runAsGroup: number | undefined, image: ImageUser) {
  if (runAsUser !== undefined) return { runAsUser: int64(runAsUser), runAsGroup: int64(runAsGroup) };
  if (runAsGroup === undefined) return {};
  if (image.username) return { runAsUsername: image.username, runAsGroup: int64(runAsGroup) };
  return { runAsUser: int64(image.uid ?? 0), runAsGroup: int64(runAsGroup) };
}

function checkNonRoot(runAsUser: number | undefined, image: ImageUser): void {
  if (runAsUser === 0) throw new ContainerConfigError("container's runAsUser breaks non-root policy");
  if (runAsUser !== undefined) return;
  if (image.username)
    throw new ContainerConfigError(
      `container has runAsNonRoot and image has non-numeric user (${image.username}), cannot verify user is non-root`,
    );
  if (!image.uid) throw new ContainerConfigError('container has runAsNonRoot and image will run as root');
}
