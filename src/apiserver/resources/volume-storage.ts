/**
 * The schema of volumes of storage systems. podwire's nodes mount none of them (their pods wait with an event that says so);
 * they are here so that objects of other clusters can be read, checked and kept as they are.
 */
import { LabelSelector, ObjectMeta } from '../schema/meta.ts';
import { boolean, int32, quantities, string, stringMap, strings, use, wire } from '../schema/schema.ts';
import { coreObject as object } from './core-object.ts';
import { LocalObjectReference } from './references.ts';

const required = () => string({ required: true });

const PersistentVolumeClaimSpec = object('PersistentVolumeClaimSpec', {
  accessModes: wire(1, strings()),
  selector: wire(4, LabelSelector),
  resources: wire(
    2,
    object(
      'VolumeResourceRequirements',
      { limits: wire(1, quantities()), requests: wire(2, quantities()) },
      { always: true },
    ),
  ),
  volumeName: wire(3, string()),
  storageClassName: wire(5, string({ keep: true })),
  volumeMode: wire(6, string({ keep: true, default: 'Filesystem' })),
  dataSource: wire(
    7,
    object('TypedLocalObjectReference', {
      apiGroup: wire(1, string({ keep: true })),
      kind: wire(2, required()),
      name: wire(3, required()),
    }),
  ),
  dataSourceRef: wire(
    8,
    object('TypedObjectReference', {
      apiGroup: wire(1, string({ keep: true })),
      kind: wire(2, required()),
      name: wire(3, required()),
      namespace: wire(4, string({ keep: true })),
    }),
  ),
  volumeAttributesClassName: wire(9, string({ keep: true })),
});

/** Claims, drivers and protocols that are still in use. */
const currentSources = {
  persistentVolumeClaim: wire(
    10,
    object('PersistentVolumeClaimVolumeSource', { claimName: wire(1, required()), readOnly: wire(2, boolean()) }),
  ),
  nfs: wire(
    7,
    object('NFSVolumeSource', {
      server: wire(1, required()),
      path: wire(2, required()),
      readOnly: wire(3, boolean()),
    }),
  ),
  csi: wire(
    28,
    object('CSIVolumeSource', {
      driver: wire(1, required()),
      readOnly: wire(2, boolean({ keep: true })),
      fsType: wire(3, string({ keep: true })),
      volumeAttributes: wire(4, stringMap()),
      nodePublishSecretRef: wire(5, LocalObjectReference),
    }),
  ),
  ephemeral: wire(
    29,
    object('EphemeralVolumeSource', {
      volumeClaimTemplate: wire(
        1,
        object('PersistentVolumeClaimTemplate', {
          metadata: wire(1, use(ObjectMeta, { always: true })),
          spec: wire(2, use(PersistentVolumeClaimSpec, { required: true, always: true })),
        }),
      ),
    }),
  ),
  iscsi: wire(
    8,
    object('ISCSIVolumeSource', {
      targetPortal: wire(1, required()),
      iqn: wire(2, required()),
      lun: wire(3, int32({ required: true })),
      iscsiInterface: wire(4, string({ default: 'default' })),
      fsType: wire(5, string()),
      readOnly: wire(6, boolean()),
      portals: wire(7, strings()),
      chapAuthDiscovery: wire(8, boolean()),
      chapAuthSession: wire(11, boolean()),
      secretRef: wire(10, LocalObjectReference),
      initiatorName: wire(12, string({ keep: true })),
    }),
  ),
  fc: wire(
    17,
    object('FCVolumeSource', {
      targetWWNs: wire(1, strings()),
      lun: wire(2, int32({ keep: true })),
      fsType: wire(3, string()),
      readOnly: wire(4, boolean()),
      wwids: wire(5, strings()),
    }),
  ),
  flexVolume: wire(
    12,
    object('FlexVolumeSource', {
      driver: wire(1, required()),
      fsType: wire(2, string()),
      secretRef: wire(3, LocalObjectReference),
      readOnly: wire(4, boolean()),
      options: wire(5, stringMap()),
    }),
  ),
};

/** Disks of clouds, which became CSI drivers. */
const cloudSources = {
  gcePersistentDisk: wire(
    3,
    object('GCEPersistentDiskVolumeSource', {
      pdName: wire(1, required()),
      fsType: wire(2, string()),
      partition: wire(3, int32()),
      readOnly: wire(4, boolean()),
    }),
  ),
  awsElasticBlockStore: wire(
    4,
    object('AWSElasticBlockStoreVolumeSource', {
      volumeID: wire(1, required()),
      fsType: wire(2, string()),
      partition: wire(3, int32()),
      readOnly: wire(4, boolean()),
    }),
  ),
  cinder: wire(
    13,
    object('CinderVolumeSource', {
      volumeID: wire(1, required()),
      fsType: wire(2, string()),
      readOnly: wire(3, boolean()),
      secretRef: wire(4, LocalObjectReference),
    }),
  ),
  azureFile: wire(
    18,
    object('AzureFileVolumeSource', {
      secretName: wire(1, required()),
      shareName: wire(2, required()),
      readOnly: wire(3, boolean()),
    }),
  ),
  azureDisk: wire(
    22,
    object('AzureDiskVolumeSource', {
      diskName: wire(1, required()),
      diskURI: wire(2, required()),
      cachingMode: wire(3, string({ keep: true, default: 'ReadWrite' })),
      fsType: wire(4, string({ keep: true, default: 'ext4' })),
      readOnly: wire(5, boolean({ keep: true, default: false })),
      kind: wire(6, string({ keep: true, default: 'Shared' })),
    }),
  ),
  vsphereVolume: wire(
    20,
    object('VsphereVirtualDiskVolumeSource', {
      volumePath: wire(1, required()),
      fsType: wire(2, string()),
      storagePolicyName: wire(3, string()),
      storagePolicyID: wire(4, string()),
    }),
  ),
  photonPersistentDisk: wire(
    23,
    object('PhotonPersistentDiskVolumeSource', { pdID: wire(1, required()), fsType: wire(2, string()) }),
  ),
};

/** Storage clusters and what else Kubernetes has given up; the API still knows them. */
const formerSources = {
  gitRepo: wire(
    5,
    object('GitRepoVolumeSource', {
      repository: wire(1, required()),
      revision: wire(2, string()),
      directory: wire(3, string()),
    }),
  ),
  glusterfs: wire(
    9,
    object('GlusterfsVolumeSource', {
      endpoints: wire(1, required()),
      path: wire(2, required()),
      readOnly: wire(3, boolean()),
    }),
  ),
  rbd: wire(
    11,
    object('RBDVolumeSource', {
      monitors: wire(1, strings({ required: true })),
      image: wire(2, required()),
      fsType: wire(3, string()),
      pool: wire(4, string({ default: 'rbd' })),
      user: wire(5, string({ default: 'admin' })),
      keyring: wire(6, string({ default: '/etc/ceph/keyring' })),
      secretRef: wire(7, LocalObjectReference),
      readOnly: wire(8, boolean()),
    }),
  ),
  cephfs: wire(
    14,
    object('CephFSVolumeSource', {
      monitors: wire(1, strings({ required: true })),
      path: wire(2, string()),
      user: wire(3, string()),
      secretFile: wire(4, string()),
      secretRef: wire(5, LocalObjectReference),
      readOnly: wire(6, boolean()),
    }),
  ),
  flocker: wire(15, object('FlockerVolumeSource', { datasetName: wire(1, string()), datasetUUID: wire(2, string()) })),
  quobyte: wire(
    21,
    object('QuobyteVolumeSource', {
      registry: wire(1, required()),
      volume: wire(2, required()),
      readOnly: wire(3, boolean()),
      user: wire(4, string()),
      group: wire(5, string()),
      tenant: wire(6, string()),
    }),
  ),
  portworxVolume: wire(
    24,
    object('PortworxVolumeSource', {
      volumeID: wire(1, required()),
      fsType: wire(2, string()),
      readOnly: wire(3, boolean()),
    }),
  ),
  scaleIO: wire(
    25,
    object('ScaleIOVolumeSource', {
      gateway: wire(1, required()),
      system: wire(2, required()),
      secretRef: wire(3, LocalObjectReference),
      sslEnabled: wire(4, boolean()),
      protectionDomain: wire(5, string()),
      storagePool: wire(6, string()),
      storageMode: wire(7, string({ default: 'ThinProvisioned' })),
      volumeName: wire(8, string()),
      fsType: wire(9, string({ default: 'xfs' })),
      readOnly: wire(10, boolean()),
    }),
  ),
  storageos: wire(
    27,
    object('StorageOSVolumeSource', {
      volumeName: wire(1, string()),
      volumeNamespace: wire(2, string()),
      fsType: wire(3, string()),
      readOnly: wire(4, boolean()),
      secretRef: wire(5, LocalObjectReference),
    }),
  ),
};

export const storageSources = { ...currentSources, ...cloudSources, ...formerSources };
