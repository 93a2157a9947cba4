/** The schema of PodSpec and of everything inside it, shared by Pod and by the kinds that hold pod templates. */
import { LabelSelector, ObjectMeta } from '../schema/meta.ts';
import {
  boolean,
  object as define,
  embedded,
  int32,
  int64,
  intOrString,
  list,
  map,
  type ObjectSchema,
  quantities,
  quantity,
  type Schema,
  string,
  stringMap,
  strings,
  use,
  wire,
} from '../schema/schema.ts';
import { KeySelector, LocalObjectReference, ObjectFieldSelector, ResourceFieldSelector } from './references.ts';
import { Volume } from './volume.ts';

const object = (name: string, fields: Readonly<Record<string, Schema>>, description?: string): ObjectSchema =>
  define(`io.k8s.api.core.v1.${name}`, fields, description ? { description } : {});

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

const SELinuxOptions = object('SELinuxOptions', {
  user: wire(1, string()),
  role: wire(2, string()),
  type: wire(3, string()),
  level: wire(4, string()),
});
const WindowsSecurityContextOptions = object('WindowsSecurityContextOptions', {
  gmsaCredentialSpecName: wire(1, string({ keep: true })),
  gmsaCredentialSpec: wire(2, string({ keep: true })),
  runAsUserName: wire(3, string({ keep: true })),
  hostProcess: wire(4, boolean({ keep: true })),
});
const Profile = (name: string) =>
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

export const Toleration = object('Toleration', {
  key: wire(1, string()),
  operator: wire(2, string({ enum: ['Equal', 'Exists', 'Gt', 'Lt'] })),
  value: wire(3, string()),
  effect: wire(4, string()),
  tolerationSeconds: wire(5, int64({ keep: true })),
});

const NodeSelectorRequirement = object('NodeSelectorRequirement', {
  key: wire(1, string({ required: true })),
  operator: wire(2, string({ required: true })),
  values: wire(3, strings()),
});
const NodeSelectorTerm = object('NodeSelectorTerm', {
  matchExpressions: wire(1, list(NodeSelectorRequirement)),
  matchFields: wire(2, list(NodeSelectorRequirement)),
});
const NodeSelector = object('NodeSelector', { nodeSelectorTerms: wire(1, list(NodeSelectorTerm, { required: true })) });
const PodAffinityTerm = object('PodAffinityTerm', {
  labelSelector: wire(1, LabelSelector),
  namespaces: wire(2, strings()),
  topologyKey: wire(3, string({ required: true })),
  namespaceSelector: wire(4, LabelSelector),
  matchLabelKeys: wire(5, strings()),
  mismatchLabelKeys: wire(6, strings()),
});
const WeightedPodAffinityTerm = object('WeightedPodAffinityTerm', {
  weight: wire(1, int32({ required: true })),
  podAffinityTerm: wire(2, use(PodAffinityTerm, { required: true })),
});
const podAffinityFields = {
  requiredDuringSchedulingIgnoredDuringExecution: wire(1, list(PodAffinityTerm)),
  preferredDuringSchedulingIgnoredDuringExecution: wire(2, list(WeightedPodAffinityTerm)),
};
const Affinity = object('Affinity', {
  nodeAffinity: wire(
    1,
    object('NodeAffinity', {
      requiredDuringSchedulingIgnoredDuringExecution: wire(1, NodeSelector),
      preferredDuringSchedulingIgnoredDuringExecution: wire(
        2,
        list(
          object('PreferredSchedulingTerm', {
            weight: wire(1, int32({ required: true })),
            preference: wire(2, use(NodeSelectorTerm, { required: true })),
          }),
        ),
      ),
    }),
  ),
  podAffinity: wire(2, object('PodAffinity', podAffinityFields)),
  podAntiAffinity: wire(3, object('PodAntiAffinity', podAffinityFields)),
});

const TopologySpreadConstraint = object('TopologySpreadConstraint', {
  maxSkew: wire(1, int32({ required: true })),
  topologyKey: wire(2, string({ required: true })),
  whenUnsatisfiable: wire(3, string({ required: true })),
  labelSelector: wire(4, LabelSelector),
  minDomains: wire(5, int32({ keep: true })),
  nodeAffinityPolicy: wire(6, string({ keep: true })),
  nodeTaintsPolicy: wire(7, string({ keep: true })),
  matchLabelKeys: wire(8, strings()),
});

const PodSecurityContext = object('PodSecurityContext', {
  seLinuxOptions: wire(1, SELinuxOptions),
  windowsOptions: wire(8, WindowsSecurityContextOptions),
  runAsUser: wire(2, int64({ keep: true })),
  runAsGroup: wire(6, int64({ keep: true })),
  runAsNonRoot: wire(3, boolean({ keep: true })),
  supplementalGroups: wire(4, list(int64({ keep: true }))),
  supplementalGroupsPolicy: wire(12, string({ keep: true })),
  fsGroup: wire(5, int64({ keep: true })),
  sysctls: wire(
    7,
    list(object('Sysctl', { name: wire(1, string({ required: true })), value: wire(2, string({ required: true })) })),
  ),
  fsGroupChangePolicy: wire(9, string({ keep: true })),
  seccompProfile: wire(10, Profile('SeccompProfile')),
  appArmorProfile: wire(11, Profile('AppArmorProfile')),
  seLinuxChangePolicy: wire(13, string({ keep: true })),
});

const PodDNSConfig = object('PodDNSConfig', {
  nameservers: wire(1, strings()),
  searches: wire(2, strings()),
  options: wire(
    3,
    list(object('PodDNSConfigOption', { name: wire(1, string()), value: wire(2, string({ keep: true })) })),
  ),
});

export const PodSpec = object(
  'PodSpec',
  {
    volumes: wire(
      1,
      list(Volume, {
        mergeKey: 'name',
        retainKeys: true,
        description: 'Volumes that containers of the pod can mount.',
      }),
    ),
    initContainers: wire(
      20,
      list(Container, {
        mergeKey: 'name',
        description: 'Containers run one after another before the others.',
      }),
    ),
    containers: wire(
      2,
      list(Container, {
        mergeKey: 'name',
        required: true,
        description: 'Containers of the pod; at least one.',
      }),
    ),
    ephemeralContainers: wire(34, list(EphemeralContainer, { mergeKey: 'name' })),
    restartPolicy: wire(
      3,
      string({
        default: 'Always',
        enum: ['Always', 'Never', 'OnFailure'],
        description: 'Always, OnFailure or Never. Default Always.',
      }),
    ),
    terminationGracePeriodSeconds: wire(4, int64({ keep: true, default: 30 })),
    activeDeadlineSeconds: wire(5, int64({ keep: true })),
    dnsPolicy: wire(
      6,
      string({
        default: 'ClusterFirst',
        enum: ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'],
        description: 'DNS policy for the pod. Default ClusterFirst.',
      }),
    ),
    nodeSelector: wire(7, stringMap({ description: 'Labels that a node must have to run the pod.' })),
    serviceAccountName: wire(8, string({ description: 'The ServiceAccount to run this pod as.' })),
    serviceAccount: wire(9, string()),
    automountServiceAccountToken: wire(21, boolean({ keep: true })),
    nodeName: wire(
      10,
      string({
        description: 'The node on which the pod runs; set by the scheduler through the binding subresource.',
      }),
    ),
    hostNetwork: wire(11, boolean({ description: "Use the node's network namespace." })),
    hostPID: wire(12, boolean()),
    hostIPC: wire(13, boolean()),
    shareProcessNamespace: wire(27, boolean({ keep: true })),
    // A struct pointer that defaulting always fills in.
    securityContext: wire(14, use(PodSecurityContext, { always: true })),
    imagePullSecrets: wire(15, list(LocalObjectReference, { mergeKey: 'name' })),
    hostname: wire(16, string({ description: "The pod's hostname; its name when absent." })),
    subdomain: wire(17, string()),
    affinity: wire(18, Affinity),
    schedulerName: wire(19, string({ default: 'default-scheduler' })),
    tolerations: wire(22, list(Toleration)),
    hostAliases: wire(
      23,
      list(object('HostAlias', { ip: wire(1, string({ required: true })), hostnames: wire(2, strings()) }), {
        mergeKey: 'ip',
      }),
    ),
    priorityClassName: wire(24, string()),
    priority: wire(25, int32({ keep: true })),
    dnsConfig: wire(26, PodDNSConfig),
    readinessGates: wire(28, list(object('PodReadinessGate', { conditionType: wire(1, string({ required: true })) }))),
    runtimeClassName: wire(29, string({ keep: true })),
    enableServiceLinks: wire(30, boolean({ keep: true, default: true })),
    preemptionPolicy: wire(31, string({ keep: true })),
    overhead: wire(32, quantities()),
    topologySpreadConstraints: wire(
      33,
      list(TopologySpreadConstraint, {
        mergeKey: 'topologyKey',
        mapKeys: ['topologyKey', 'whenUnsatisfiable'],
      }),
    ),
    setHostnameAsFQDN: wire(35, boolean({ keep: true })),
    os: wire(36, object('PodOS', { name: wire(1, string({ required: true })) })),
    hostUsers: wire(37, boolean({ keep: true })),
    schedulingGates: wire(
      38,
      list(object('PodSchedulingGate', { name: wire(1, string({ required: true })) }), { mergeKey: 'name' }),
    ),
    resourceClaims: wire(
      39,
      list(
        object('PodResourceClaim', {
          name: wire(1, string({ required: true })),
          resourceClaimName: wire(3, string({ keep: true })),
          resourceClaimTemplateName: wire(4, string({ keep: true })),
        }),
        { mergeKey: 'name', retainKeys: true },
      ),
    ),
    resources: wire(40, ResourceRequirements),
    hostnameOverride: wire(41, string({ keep: true })),
  },
  'PodSpec is a description of a pod.',
);

export const PodTemplateSpec = object('PodTemplateSpec', {
  metadata: wire(1, use(ObjectMeta, { always: true })),
  spec: wire(2, use(PodSpec, { description: 'The pods to be made.' })),
});

/** Amounts by name, for schemas that hold one. */
export const amounts = () => map(quantity());
