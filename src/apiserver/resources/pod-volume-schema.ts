/** The schema of a pod's volume, of every kind. */
import { any, boolean, int32, int64, list, quantity, string, stringMap } from '../schema/schema.ts';
import { LocalObjectReference, ObjectFieldSelector, object, ResourceFieldSelector } from './core-schema.ts';

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

export const Volume = object(
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
