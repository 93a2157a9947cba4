/** The schema of PodSpec and of everything inside it, shared by Pod and by the kinds that hold pod templates. */
import { LabelSelector, ObjectMeta } from '../schema/meta.ts';
import {
  any,
  boolean,
  object as define,
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
} from '../schema/schema.ts';

const object = (name: string, fields: Readonly<Record<string, Schema>>, description?: string): ObjectSchema =>
  define(`io.k8s.api.core.v1.${name}`, fields, description ? { description } : {});

export const LocalObjectReference = object('LocalObjectReference', { name: string() });
export const ObjectReference = object('ObjectReference', {
  kind: string(),
  namespace: string(),
  name: string(),
  uid: string(),
  apiVersion: string(),
  resourceVersion: string(),
  fieldPath: string(),
});

const KeySelector = (name: string) =>
  object(name, { name: string(), key: string({ required: true }), optional: boolean({ keep: true }) });
const ObjectFieldSelector = object('ObjectFieldSelector', {
  apiVersion: string({ default: 'v1' }),
  fieldPath: string({ required: true }),
});
const ResourceFieldSelector = object('ResourceFieldSelector', {
  containerName: string(),
  resource: string({ required: true }),
  divisor: quantity({ default: '0' }),
});

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

const SELinuxOptions = object('SELinuxOptions', { user: string(), role: string(), type: string(), level: string() });
const WindowsSecurityContextOptions = object('WindowsSecurityContextOptions', {
  gmsaCredentialSpecName: string({ keep: true }),
  gmsaCredentialSpec: string({ keep: true }),
  runAsUserName: string({ keep: true }),
  hostProcess: boolean({ keep: true }),
});
const Profile = (name: string) =>
  object(name, { type: string({ required: true }), localhostProfile: string({ keep: true }) });

const SecurityContext = object('SecurityContext', {
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

const KeyToPath = object('KeyToPath', {
  key: string({ required: true }),
  path: string({ required: true }),
  mode: int32({ keep: true }),
});
const MODE = 0o644;
const DownwardAPIVolumeFile = object('DownwardAPIVolumeFile', {
  path: string({ required: true }),
  fieldRef: ObjectFieldSelector,
  resourceFieldRef: ResourceFieldSelector,
  mode: int32({ keep: true }),
});
const VolumeProjection = object('VolumeProjection', {
  secret: object('SecretProjection', { name: string(), items: list(KeyToPath), optional: boolean({ keep: true }) }),
  downwardAPI: object('DownwardAPIProjection', { items: list(DownwardAPIVolumeFile) }),
  configMap: object('ConfigMapProjection', {
    name: string(),
    items: list(KeyToPath),
    optional: boolean({ keep: true }),
  }),
  serviceAccountToken: object('ServiceAccountTokenProjection', {
    audience: string(),
    expirationSeconds: int64({ keep: true, default: 3600 }),
    path: string({ required: true }),
  }),
  clusterTrustBundle: any(),
  podCertificate: any(),
});

const Volume = object(
  'Volume',
  {
    name: string({ required: true, description: 'A DNS label, unique within the pod.' }),
    hostPath: object('HostPathVolumeSource', {
      path: string({ required: true }),
      type: string({ keep: true, default: '' }),
    }),
    emptyDir: object('EmptyDirVolumeSource', { medium: string(), sizeLimit: quantity() }),
    secret: object('SecretVolumeSource', {
      secretName: string(),
      items: list(KeyToPath),
      defaultMode: int32({ keep: true, default: MODE }),
      optional: boolean({ keep: true }),
    }),
    configMap: object('ConfigMapVolumeSource', {
      name: string(),
      items: list(KeyToPath),
      defaultMode: int32({ keep: true, default: MODE }),
      optional: boolean({ keep: true }),
    }),
    downwardAPI: object('DownwardAPIVolumeSource', {
      items: list(DownwardAPIVolumeFile),
      defaultMode: int32({ keep: true, default: MODE }),
    }),
    projected: object('ProjectedVolumeSource', {
      sources: list(VolumeProjection),
      defaultMode: int32({ keep: true, default: MODE }),
    }),
    persistentVolumeClaim: object('PersistentVolumeClaimVolumeSource', {
      claimName: string({ required: true }),
      readOnly: boolean(),
    }),
    nfs: object('NFSVolumeSource', {
      server: string({ required: true }),
      path: string({ required: true }),
      readOnly: boolean(),
    }),
    image: object('ImageVolumeSource', { reference: string(), pullPolicy: string() }),
    csi: object('CSIVolumeSource', {
      driver: string({ required: true }),
      readOnly: boolean({ keep: true }),
      fsType: string({ keep: true }),
      volumeAttributes: stringMap(),
      nodePublishSecretRef: LocalObjectReference,
    }),
    ephemeral: any(),
    iscsi: any(),
    glusterfs: any(),
    rbd: any(),
    cephfs: any(),
    cinder: any(),
    fc: any(),
    flocker: any(),
    flexVolume: any(),
    gitRepo: any(),
    azureFile: any(),
    azureDisk: any(),
    awsElasticBlockStore: any(),
    gcePersistentDisk: any(),
    vsphereVolume: any(),
    quobyte: any(),
    photonPersistentDisk: any(),
    portworxVolume: any(),
    scaleIO: any(),
    storageos: any(),
  },
  'Volume represents a named volume in a pod that may be accessed by any container in the pod.',
);

export const Toleration = object('Toleration', {
  key: string(),
  operator: string({ enum: ['Equal', 'Exists', 'Gt', 'Lt'] }),
  value: string(),
  effect: string(),
  tolerationSeconds: int64({ keep: true }),
});

const NodeSelectorRequirement = object('NodeSelectorRequirement', {
  key: string({ required: true }),
  operator: string({ required: true }),
  values: strings(),
});
const NodeSelectorTerm = object('NodeSelectorTerm', {
  matchExpressions: list(NodeSelectorRequirement),
  matchFields: list(NodeSelectorRequirement),
});
const NodeSelector = object('NodeSelector', { nodeSelectorTerms: list(NodeSelectorTerm, { required: true }) });
const PodAffinityTerm = object('PodAffinityTerm', {
  labelSelector: LabelSelector,
  namespaces: strings(),
  topologyKey: string({ required: true }),
  namespaceSelector: LabelSelector,
  matchLabelKeys: strings(),
  mismatchLabelKeys: strings(),
});
const WeightedPodAffinityTerm = object('WeightedPodAffinityTerm', {
  weight: int32({ required: true }),
  podAffinityTerm: use(PodAffinityTerm, { required: true }),
});
const podAffinityFields = {
  requiredDuringSchedulingIgnoredDuringExecution: list(PodAffinityTerm),
  preferredDuringSchedulingIgnoredDuringExecution: list(WeightedPodAffinityTerm),
};
const Affinity = object('Affinity', {
  nodeAffinity: object('NodeAffinity', {
    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector,
    preferredDuringSchedulingIgnoredDuringExecution: list(
      object('PreferredSchedulingTerm', {
        weight: int32({ required: true }),
        preference: use(NodeSelectorTerm, { required: true }),
      }),
    ),
  }),
  podAffinity: object('PodAffinity', podAffinityFields),
  podAntiAffinity: object('PodAntiAffinity', podAffinityFields),
});

const TopologySpreadConstraint = object('TopologySpreadConstraint', {
  maxSkew: int32({ required: true }),
  topologyKey: string({ required: true }),
  whenUnsatisfiable: string({ required: true }),
  labelSelector: LabelSelector,
  minDomains: int32({ keep: true }),
  nodeAffinityPolicy: string({ keep: true }),
  nodeTaintsPolicy: string({ keep: true }),
  matchLabelKeys: strings(),
});

const PodSecurityContext = object('PodSecurityContext', {
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

const PodDNSConfig = object('PodDNSConfig', {
  nameservers: strings(),
  searches: strings(),
  options: list(object('PodDNSConfigOption', { name: string(), value: string({ keep: true }) })),
});

export const PodSpec = object(
  'PodSpec',
  {
    volumes: list(Volume, {
      mergeKey: 'name',
      retainKeys: true,
      description: 'Volumes that containers of the pod can mount.',
    }),
    initContainers: list(Container, {
      mergeKey: 'name',
      description: 'Containers run one after another before the others.',
    }),
    containers: list(Container, {
      mergeKey: 'name',
      required: true,
      description: 'Containers of the pod; at least one.',
    }),
    ephemeralContainers: list(EphemeralContainer, { mergeKey: 'name' }),
    restartPolicy: string({
      default: 'Always',
      enum: ['Always', 'Never', 'OnFailure'],
      description: 'Always, OnFailure or Never. Default Always.',
    }),
    terminationGracePeriodSeconds: int64({ keep: true, default: 30 }),
    activeDeadlineSeconds: int64({ keep: true }),
    dnsPolicy: string({
      default: 'ClusterFirst',
      enum: ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'],
      description: 'DNS policy for the pod. Default ClusterFirst.',
    }),
    nodeSelector: stringMap({ description: 'Labels that a node must have to run the pod.' }),
    serviceAccountName: string({ description: 'The ServiceAccount to run this pod as.' }),
    serviceAccount: string(),
    automountServiceAccountToken: boolean({ keep: true }),
    nodeName: string({
      description: 'The node on which the pod runs; set by the scheduler through the binding subresource.',
    }),
    hostNetwork: boolean({ description: "Use the node's network namespace." }),
    hostPID: boolean(),
    hostIPC: boolean(),
    shareProcessNamespace: boolean({ keep: true }),
    // A struct pointer that defaulting always fills in.
    securityContext: use(PodSecurityContext, { always: true }),
    imagePullSecrets: list(LocalObjectReference, { mergeKey: 'name' }),
    hostname: string({ description: "The pod's hostname; its name when absent." }),
    subdomain: string(),
    affinity: Affinity,
    schedulerName: string({ default: 'default-scheduler' }),
    tolerations: list(Toleration),
    hostAliases: list(object('HostAlias', { ip: string({ required: true }), hostnames: strings() }), {
      mergeKey: 'ip',
    }),
    priorityClassName: string(),
    priority: int32({ keep: true }),
    dnsConfig: PodDNSConfig,
    readinessGates: list(object('PodReadinessGate', { conditionType: string({ required: true }) })),
    runtimeClassName: string({ keep: true }),
    enableServiceLinks: boolean({ keep: true, default: true }),
    preemptionPolicy: string({ keep: true }),
    overhead: quantities(),
    topologySpreadConstraints: list(TopologySpreadConstraint, {
      mergeKey: 'topologyKey',
      mapKeys: ['topologyKey', 'whenUnsatisfiable'],
    }),
    setHostnameAsFQDN: boolean({ keep: true }),
    os: object('PodOS', { name: string({ required: true }) }),
    hostUsers: boolean({ keep: true }),
    schedulingGates: list(object('PodSchedulingGate', { name: string({ required: true }) }), { mergeKey: 'name' }),
    resourceClaims: list(
      object('PodResourceClaim', {
        name: string({ required: true }),
        resourceClaimName: string({ keep: true }),
        resourceClaimTemplateName: string({ keep: true }),
      }),
      { mergeKey: 'name', retainKeys: true },
    ),
    resources: ResourceRequirements,
    hostnameOverride: string({ keep: true }),
  },
  'PodSpec is a description of a pod.',
);

export const PodTemplateSpec = object('PodTemplateSpec', {
  metadata: use(ObjectMeta, { always: true }),
  spec: use(PodSpec, { description: 'The pods to be made.' }),
});

/** Amounts by name, for schemas that hold one. */
export const amounts = () => map(quantity());
