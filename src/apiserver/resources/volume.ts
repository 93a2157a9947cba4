/** The schema of a pod's volumes: what nodes can mount. Storage systems are in volume-storage.ts. */
import { LabelSelector } from '../schema/meta.ts';
import { boolean, embedded, int32, int64, list, quantity, string, stringMap, wire } from '../schema/schema.ts';
import { coreObject as object } from './core-object.ts';
import { LocalObjectReference, ObjectFieldSelector, ResourceFieldSelector } from './references.ts';
import { storageSources } from './volume-storage.ts';

/** Files of volumes have this mode unless they say otherwise. */
const MODE = 0o644;

const KeyToPath = object('KeyToPath', {
  key: wire(1, string({ required: true })),
  path: wire(2, string({ required: true })),
  mode: wire(3, int32({ keep: true })),
});
const DownwardAPIVolumeFile = object('DownwardAPIVolumeFile', {
  path: wire(1, string({ required: true })),
  fieldRef: wire(2, ObjectFieldSelector),
  resourceFieldRef: wire(3, ResourceFieldSelector),
  mode: wire(4, int32({ keep: true })),
});

const VolumeProjection = object('VolumeProjection', {
  secret: wire(
    1,
    object('SecretProjection', {
      ...embedded(1, LocalObjectReference.fields),
      items: wire(2, list(KeyToPath)),
      optional: wire(4, boolean({ keep: true })),
    }),
  ),
  downwardAPI: wire(2, object('DownwardAPIProjection', { items: wire(1, list(DownwardAPIVolumeFile)) })),
  configMap: wire(
    3,
    object('ConfigMapProjection', {
      ...embedded(1, LocalObjectReference.fields),
      items: wire(2, list(KeyToPath)),
      optional: wire(4, boolean({ keep: true })),
    }),
  ),
  serviceAccountToken: wire(
    4,
    object('ServiceAccountTokenProjection', {
      audience: wire(1, string()),
      expirationSeconds: wire(2, int64({ keep: true, default: 3600 })),
      path: wire(3, string({ required: true })),
    }),
  ),
  clusterTrustBundle: wire(
    5,
    object('ClusterTrustBundleProjection', {
      name: wire(1, string({ keep: true })),
      signerName: wire(2, string({ keep: true })),
      labelSelector: wire(3, LabelSelector),
      optional: wire(5, boolean({ keep: true })),
      path: wire(4, string({ required: true })),
    }),
  ),
  podCertificate: wire(
    6,
    object('PodCertificateProjection', {
      signerName: wire(1, string()),
      keyType: wire(2, string()),
      maxExpirationSeconds: wire(3, int32({ keep: true })),
      credentialBundlePath: wire(4, string()),
      keyPath: wire(5, string()),
      certificateChainPath: wire(6, string()),
      userAnnotations: wire(7, stringMap()),
    }),
  ),
});

/** What clusters always have; one of these or of the storage systems is given. */
const nodeSources = {
  hostPath: wire(
    1,
    object('HostPathVolumeSource', {
      path: wire(1, string({ required: true })),
      type: wire(2, string({ keep: true, default: '' })),
    }),
  ),
  emptyDir: wire(2, object('EmptyDirVolumeSource', { medium: wire(1, string()), sizeLimit: wire(2, quantity()) })),
  secret: wire(
    6,
    object('SecretVolumeSource', {
      secretName: wire(1, string()),
      items: wire(2, list(KeyToPath)),
      defaultMode: wire(3, int32({ keep: true, default: MODE })),
      optional: wire(4, boolean({ keep: true })),
    }),
  ),
  configMap: wire(
    19,
    object('ConfigMapVolumeSource', {
      ...embedded(1, LocalObjectReference.fields),
      items: wire(2, list(KeyToPath)),
      defaultMode: wire(3, int32({ keep: true, default: MODE })),
      optional: wire(4, boolean({ keep: true })),
    }),
  ),
  downwardAPI: wire(
    16,
    object('DownwardAPIVolumeSource', {
      items: wire(1, list(DownwardAPIVolumeFile)),
      defaultMode: wire(2, int32({ keep: true, default: MODE })),
    }),
  ),
  projected: wire(
    26,
    object('ProjectedVolumeSource', {
      sources: wire(1, list(VolumeProjection)),
      defaultMode: wire(2, int32({ keep: true, default: MODE })),
    }),
  ),
  image: wire(30, object('ImageVolumeSource', { reference: wire(1, string()), pullPolicy: wire(2, string()) })),
};

export const Volume = object(
  'Volume',
  {
    name: wire(1, string({ required: true, description: 'A DNS label, unique within the pod.' })),
    ...embedded(2, { ...nodeSources, ...storageSources }),
  },
  'Volume represents a named volume in a pod that may be accessed by any container in the pod.',
);
