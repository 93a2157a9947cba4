/** The schema of a container and of everything inside it. */
import {
  boolean,
  embedded,
  int32,
  int64,
  intOrString,
  list,
  quantities,
  string,
  strings,
  use,
  wire,
} from '../schema/schema.ts';
import { coreObject as object } from './core-object.ts';
import { KeySelector, LocalObjectReference, ObjectFieldSelector, ResourceFieldSelector } from './references.ts';

const EnvVar = object(
  'EnvVar',
  {
    name: wire(1, string({ required: true, description: 'Name of the environment variable.' })),
    value: wire(2, string({ description: 'Value; $(VAR_NAME) is expanded from earlier variables.' })),
    valueFrom: wire(
      3,
      object('EnvVarSource', {
        fieldRef: wire(1, ObjectFieldSelector),
        resourceFieldRef: wire(2, ResourceFieldSelector),
        configMapKeyRef: wire(3, KeySelector('ConfigMapKeySelector')),
        secretKeyRef: wire(4, KeySelector('SecretKeySelector')),
        fileKeyRef: wire(
          5,
          object('FileKeySelector', {
            volumeName: wire(1, string({ required: true })),
            path: wire(2, string({ required: true })),
            key: wire(3, string({ required: true })),
            optional: wire(4, boolean({ keep: true })),
          }),
        ),
      }),
    ),
  },
  'EnvVar represents an environment variable present in a Container.',
);
const EnvSource = (name: string) =>
  object(name, { ...embedded(1, LocalObjectReference.fields), optional: wire(2, boolean({ keep: true })) });
const EnvFromSource = object('EnvFromSource', {
  prefix: wire(1, string()),
  configMapRef: wire(2, EnvSource('ConfigMapEnvSource')),
  secretRef: wire(3, EnvSource('SecretEnvSource')),
});

const ContainerPort = object(
  'ContainerPort',
  {
    name: wire(1, string({ description: 'An IANA_SVC_NAME, unique within the pod; Services can refer to it.' })),
    hostPort: wire(2, int32({ description: "The port on the node's addresses." })),
    containerPort: wire(3, int32({ required: true, description: "The port on the pod's IP address." })),
    protocol: wire(
      4,
      string({ default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'], description: 'UDP, TCP or SCTP. Default TCP.' }),
    ),
    hostIP: wire(5, string()),
  },
  'ContainerPort represents a network port in a single container.',
);

const VolumeMount = object('VolumeMount', {
  name: wire(1, string({ required: true })),
  readOnly: wire(2, boolean()),
  recursiveReadOnly: wire(7, string({ keep: true })),
  mountPath: wire(3, string({ required: true })),
  subPath: wire(4, string()),
  mountPropagation: wire(5, string({ keep: true })),
  subPathExpr: wire(6, string()),
});
const VolumeDevice = object('VolumeDevice', {
  name: wire(1, string({ required: true })),
  devicePath: wire(2, string({ required: true })),
});

const ExecAction = object('ExecAction', { command: wire(1, strings()) });
const HTTPGetAction = object('HTTPGetAction', {
  path: wire(1, string({ default: '/' })),
  port: wire(2, intOrString({ required: true })),
  host: wire(3, string()),
  scheme: wire(4, string({ default: 'HTTP', enum: ['HTTP', 'HTTPS'] })),
  httpHeaders: wire(
    5,
    list(
      object('HTTPHeader', { name: wire(1, string({ required: true })), value: wire(2, string({ required: true })) }),
    ),
  ),
});
const TCPSocketAction = object('TCPSocketAction', {
  port: wire(1, intOrString({ required: true })),
  host: wire(2, string()),
});
const GRPCAction = object('GRPCAction', {
  port: wire(1, int32({ required: true })),
  service: wire(2, string({ keep: true, default: '' })),
});

export const Probe = object(
  'Probe',
  {
    ...embedded(1, {
      exec: wire(1, ExecAction),
      httpGet: wire(2, HTTPGetAction),
      tcpSocket: wire(3, TCPSocketAction),
      grpc: wire(4, GRPCAction),
    }),
    initialDelaySeconds: wire(
      2,
      int32({ description: 'Seconds after the container has started before the probe begins.' }),
    ),
    timeoutSeconds: wire(3, int32({ default: 1, description: 'Seconds after which the probe times out. Default 1.' })),
    periodSeconds: wire(4, int32({ default: 10, description: 'How often to probe, in seconds. Default 10.' })),
    successThreshold: wire(5, int32({ default: 1 })),
    failureThreshold: wire(6, int32({ default: 3 })),
    terminationGracePeriodSeconds: wire(7, int64({ keep: true })),
  },
  'Probe describes a health check to be performed against a container.',
);
const LifecycleHandler = object('LifecycleHandler', {
  exec: wire(1, ExecAction),
  httpGet: wire(2, HTTPGetAction),
  tcpSocket: wire(3, TCPSocketAction),
  sleep: wire(4, object('SleepAction', { seconds: wire(1, int64({ required: true })) })),
});
const Lifecycle = object('Lifecycle', {
  postStart: wire(1, LifecycleHandler),
  preStop: wire(2, LifecycleHandler),
  stopSignal: wire(3, string({ keep: true })),
});

export const ResourceRequirements = object('ResourceRequirements', {
  limits: wire(1, quantities()),
  requests: wire(2, quantities()),
  claims: wire(
    3,
    list(object('ResourceClaim', { name: wire(1, string({ required: true })), request: wire(2, string()) }), {
      mapKeys: ['name'],
    }),
  ),
});

export const SELinuxOptions = object('SELinuxOptions', {
  user: wire(1, string()),
  role: wire(2, string()),
  type: wire(3, string()),
  level: wire(4, string()),
});
export const WindowsSecurityContextOptions = object('WindowsSecurityContextOptions', {
  gmsaCredentialSpecName: wire(1, string({ keep: true })),
  gmsaCredentialSpec: wire(2, string({ keep: true })),
  runAsUserName: wire(3, string({ keep: true })),
  hostProcess: wire(4, boolean({ keep: true })),
});
export const Profile = (name: string) =>
  object(name, { type: wire(1, string({ required: true })), localhostProfile: wire(2, string({ keep: true })) });

const SecurityContext = object('SecurityContext', {
  capabilities: wire(1, object('Capabilities', { add: wire(1, strings()), drop: wire(2, strings()) })),
  privileged: wire(2, boolean({ keep: true })),
  seLinuxOptions: wire(3, SELinuxOptions),
  windowsOptions: wire(10, WindowsSecurityContextOptions),
  runAsUser: wire(4, int64({ keep: true })),
  runAsGroup: wire(8, int64({ keep: true })),
  runAsNonRoot: wire(5, boolean({ keep: true })),
  readOnlyRootFilesystem: wire(6, boolean({ keep: true })),
  allowPrivilegeEscalation: wire(7, boolean({ keep: true })),
  procMount: wire(9, string({ keep: true })),
  seccompProfile: wire(11, Profile('SeccompProfile')),
  appArmorProfile: wire(12, Profile('AppArmorProfile')),
});

const containerFields = {
  name: wire(1, string({ required: true, description: 'Name of the container, a DNS label, unique in the pod.' })),
  image: wire(2, string({ description: 'Container image name.' })),
  command: wire(3, strings({ description: "Entrypoint array; the image's when absent." })),
  args: wire(4, strings({ description: "Arguments to the entrypoint; the image's CMD when absent." })),
  workingDir: wire(5, string({ description: "The container's working directory." })),
  ports: wire(
    6,
    list(ContainerPort, {
      mergeKey: 'containerPort',
      mapKeys: ['containerPort', 'protocol'],
      description: 'Ports to expose from the container; informational except for hostPort.',
    }),
  ),
  envFrom: wire(19, list(EnvFromSource, { description: 'Sources that populate environment variables.' })),
  env: wire(7, list(EnvVar, { mergeKey: 'name', description: 'Environment variables to set in the container.' })),
  resources: wire(
    8,
    use(ResourceRequirements, { always: true, description: 'Compute resources required by this container.' }),
  ),
  resizePolicy: wire(
    23,
    list(
      object('ContainerResizePolicy', {
        resourceName: wire(1, string({ required: true })),
        restartPolicy: wire(2, string({ required: true })),
      }),
    ),
  ),
  restartPolicy: wire(24, string({ keep: true, description: 'Always makes an init container a sidecar.' })),
  restartPolicyRules: wire(
    25,
    list(
      object('ContainerRestartRule', {
        action: wire(1, string({ required: true })),
        exitCodes: wire(
          2,
          object('ContainerRestartRuleOnExitCodes', {
            operator: wire(1, string({ required: true })),
            values: wire(2, list(int32({ keep: true }))),
          }),
        ),
      }),
    ),
  ),
  volumeMounts: wire(
    9,
    list(VolumeMount, { mergeKey: 'mountPath', description: 'Volumes mounted into the filesystem.' }),
  ),
  volumeDevices: wire(21, list(VolumeDevice, { mergeKey: 'devicePath' })),
  livenessProbe: wire(10, use(Probe, { description: 'The container is restarted when this probe fails.' })),
  readinessProbe: wire(
    11,
    use(Probe, { description: 'The container leaves Service endpoints when this probe fails.' }),
  ),
  startupProbe: wire(22, use(Probe, { description: 'The other probes begin when this one has succeeded.' })),
  lifecycle: wire(12, Lifecycle),
  terminationMessagePath: wire(13, string({ default: '/dev/termination-log' })),
  terminationMessagePolicy: wire(20, string({ default: 'File', enum: ['FallbackToLogsOnError', 'File'] })),
  imagePullPolicy: wire(
    14,
    string({
      enum: ['Always', 'IfNotPresent', 'Never'],
      description: 'Always, Never or IfNotPresent; Always when the tag is :latest, else IfNotPresent.',
    }),
  ),
  securityContext: wire(15, SecurityContext),
  stdin: wire(16, boolean()),
  stdinOnce: wire(17, boolean()),
  tty: wire(18, boolean()),
};
export const Container = object(
  'Container',
  containerFields,
  'A single application container that you want to run within a pod.',
);
export const EphemeralContainer = object('EphemeralContainer', {
  ...embedded(1, containerFields),
  targetContainerName: wire(2, string()),
});
