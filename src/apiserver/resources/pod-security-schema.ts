/** The schemas of the security contexts of pods and containers. */
import { boolean, int64, list, string, strings } from '../schema/schema.ts';
import { object } from './core-schema.ts';

const SELinuxOptions = object('SELinuxOptions', { user: string(), role: string(), type: string(), level: string() });
const WindowsSecurityContextOptions = object('WindowsSecurityContextOptions', {
  gmsaCredentialSpecName: string({ keep: true }),
  gmsaCredentialSpec: string({ keep: true }),
  runAsUserName: string({ keep: true }),
  hostProcess: boolean({ keep: true }),
});
const Profile = (name: string) =>
  object(name, { type: string({ required: true }), localhostProfile: string({ keep: true }) });

export const SecurityContext = object('SecurityContext', {
  capabilities: object('Capabilities', { add: strings(), drop: strings() }),
  privileged: boolean({ keep: true }),
  seLinuxOptions: SELinuxOptions,
  windowsOptions: WindowsSecurityContextOptions,
  runAsUser: int64({ keep: true }),
  runAsGroup: int64({ keep: true }),
  runAsNonRoot: boolean({ keep: true }),
  readOnlyRootFilesystem: boolean({ keep: true }),
  allowPrivilegeEscalation: boolean({ keep: true }),
  procMount: string({ keep: true }),
  seccompProfile: Profile('SeccompProfile'),
  appArmorProfile: Profile('AppArmorProfile'),
});

export const PodSecurityContext = object('PodSecurityContext', {
  seLinuxOptions: SELinuxOptions,
  windowsOptions: WindowsSecurityContextOptions,
  runAsUser: int64({ keep: true }),
  runAsGroup: int64({ keep: true }),
  runAsNonRoot: boolean({ keep: true }),
  supplementalGroups: list(int64({ keep: true })),
  supplementalGroupsPolicy: string({ keep: true }),
  fsGroup: int64({ keep: true }),
  sysctls: list(object('Sysctl', { name: string({ required: true }), value: string({ required: true }) })),
  fsGroupChangePolicy: string({ keep: true }),
  seccompProfile: Profile('SeccompProfile'),
  appArmorProfile: Profile('AppArmorProfile'),
  seLinuxChangePolicy: string({ keep: true }),
});
