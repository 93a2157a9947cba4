/** The schema of a container and of everything inside it. */
import { boolean, int32, int64, intOrString, list, quantities, string, strings, use } from '../schema/schema.ts';
import { KeySelector, ObjectFieldSelector, object, ResourceFieldSelector } from './core-schema.ts';
import { SecurityContext } from './pod-security-schema.ts';

const EnvVar = object(
  'EnvVar',
  {
    name: string({ required: true, description: 'Name of the environment variable.' }),
    value: string({ description: 'Value; $(VAR_NAME) is expanded from earlier variables.' }),
    valueFrom: object('EnvVarSource', {
      fieldRef: ObjectFieldSelector,
      resourceFieldRef: ResourceFieldSelector,
      configMapKeyRef: KeySelector('ConfigMapKeySelector'),
      secretKeyRef: KeySelector('SecretKeySelector'),
      fileKeyRef: object('FileKeySelector', {
        volumeName: string({ required: true }),
        path: string({ required: true }),
        key: string({ required: true }),
        optional: boolean({ keep: true }),
      }),
    }),
  },
  'EnvVar represents an environment variable present in a Container.',
);
const EnvSource = (name: string) => object(name, { name: string(), optional: boolean({ keep: true }) });
const EnvFromSource = object('EnvFromSource', {
  prefix: string(),
  configMapRef: EnvSource('ConfigMapEnvSource'),
  secretRef: EnvSource('SecretEnvSource'),
});

const ContainerPort = object(
  'ContainerPort',
  {
    name: string({ description: 'An IANA_SVC_NAME, unique within the pod; Services can refer to it.' }),
    hostPort: int32({ description: "The port on the node's addresses." }),
    containerPort: int32({ required: true, description: "The port on the pod's IP address." }),
    protocol: string({ default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'], description: 'UDP, TCP or SCTP. Default TCP.' }),
    hostIP: string(),
  },
  'ContainerPort represents a network port in a single container.',
);

const VolumeMount = object('VolumeMount', {
  name: string({ required: true }),
  readOnly: boolean(),
  recursiveReadOnly: string({ keep: true }),
  mountPath: string({ required: true }),
  subPath: string(),
  mountPropagation: string({ keep: true }),
  subPathExpr: string(),
});
const VolumeDevice = object('VolumeDevice', {
  name: string({ required: true }),
  devicePath: string({ required: true }),
});

const ExecAction = object('ExecAction', { command: strings() });
const HTTPGetAction = object('HTTPGetAction', {
  path: string({ default: '/' }),
  port: intOrString({ required: true }),
  host: string(),
  scheme: string({ default: 'HTTP', enum: ['HTTP', 'HTTPS'] }),
  httpHeaders: list(object('HTTPHeader', { name: string({ required: true }), value: string({ required: true }) })),
});
const TCPSocketAction = object('TCPSocketAction', { port: intOrString({ required: true }), host: string() });
const GRPCAction = object('GRPCAction', {
  port: int32({ required: true }),
  service: string({ keep: true, default: '' }),
});

export const Probe = object(
  'Probe',
  {
    exec: ExecAction,
    httpGet: HTTPGetAction,
    tcpSocket: TCPSocketAction,
    grpc: GRPCAction,
    initialDelaySeconds: int32({ description: 'Seconds after the container has started before the probe begins.' }),
    timeoutSeconds: int32({ default: 1, description: 'Seconds after which the probe times out. Default 1.' }),
    periodSeconds: int32({ default: 10, description: 'How often to probe, in seconds. Default 10.' }),
    successThreshold: int32({ default: 1 }),
    failureThreshold: int32({ default: 3 }),
    terminationGracePeriodSeconds: int64({ keep: true }),
  },
  'Probe describes a health check to be performed against a container.',
);
const LifecycleHandler = object('LifecycleHandler', {
  exec: ExecAction,
  httpGet: HTTPGetAction,
  tcpSocket: TCPSocketAction,
  sleep: object('SleepAction', { seconds: int64({ required: true }) }),
});
const Lifecycle = object('Lifecycle', {
  postStart: LifecycleHandler,
  preStop: LifecycleHandler,
  stopSignal: string({ keep: true }),
});

export const ResourceRequirements = object('ResourceRequirements', {
  limits: quantities(),
  requests: quantities(),
  claims: list(object('ResourceClaim', { name: string({ required: true }), request: string() }), {
    mapKeys: ['name'],
  }),
});

const containerFields = {
  name: string({ required: true, description: 'Name of the container, a DNS label, unique in the pod.' }),
  image: string({ description: 'Container image name.' }),
  command: strings({ description: "Entrypoint array; the image's when absent." }),
  args: strings({ description: "Arguments to the entrypoint; the image's CMD when absent." }),
  workingDir: string({ description: "The container's working directory." }),
  ports: list(ContainerPort, {
    mergeKey: 'containerPort',
    mapKeys: ['containerPort', 'protocol'],
    description: 'Ports to expose from the container; informational except for hostPort.',
  }),
  envFrom: list(EnvFromSource, { description: 'Sources that populate environment variables.' }),
  env: list(EnvVar, { mergeKey: 'name', description: 'Environment variables to set in the container.' }),
  resources: use(ResourceRequirements, { always: true, description: 'Compute resources required by this container.' }),
  resizePolicy: list(
    object('ContainerResizePolicy', {
      resourceName: string({ required: true }),
      restartPolicy: string({ required: true }),
    }),
  ),
  restartPolicy: string({ keep: true, description: 'Always makes an init container a sidecar.' }),
  restartPolicyRules: list(
    object('ContainerRestartRule', {
      action: string({ required: true }),
      exitCodes: object('ContainerRestartRuleOnExitCodes', {
        operator: string({ required: true }),
        values: list(int32({ keep: true })),
      }),
    }),
  ),
  volumeMounts: list(VolumeMount, { mergeKey: 'mountPath', description: 'Volumes mounted into the filesystem.' }),
  volumeDevices: list(VolumeDevice, { mergeKey: 'devicePath' }),
  livenessProbe: use(Probe, { description: 'The container is restarted when this probe fails.' }),
  readinessProbe: use(Probe, { description: 'The container leaves Service endpoints when this probe fails.' }),
  startupProbe: use(Probe, { description: 'The other probes begin when this one has succeeded.' }),
  lifecycle: Lifecycle,
  terminationMessagePath: string({ default: '/dev/termination-log' }),
  terminationMessagePolicy: string({ default: 'File', enum: ['FallbackToLogsOnError', 'File'] }),
  imagePullPolicy: string({
    enum: ['Always', 'IfNotPresent', 'Never'],
    description: 'Always, Never or IfNotPresent; Always when the tag is :latest, else IfNotPresent.',
  }),
  securityContext: SecurityContext,
  stdin: boolean(),
  stdinOnce: boolean(),
  tty: boolean(),
};
export const Container = object(
  'Container',
  containerFields,
  'A single application container that you want to run within a pod.',
);
export const EphemeralContainer = object('EphemeralContainer', { ...containerFields, targetContainerName: string() });
