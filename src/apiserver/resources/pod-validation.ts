/** Validation of PodSpec, in Kubernetes' words; also used for pod templates. */
import type { PodSpec } from '../../kube/types.ts';
import { compareQuantities } from '../schema/quantity.ts';
import {
  duplicate,
  type FieldError,
  type FieldErrors,
  forbidden,
  invalid,
  notFound,
  type Path,
  required,
} from '../validation/field.ts';
import { validateLabels } from '../validation/meta.ts';
import { dns1123Label, dns1123Subdomain, envVarName, ipAddress, portName, portNumber } from '../validation/names.ts';

type Container = PodSpec['containers'][number];
type Probe = NonNullable<Container['livenessProbe']>;

export function validatePodSpec(spec: PodSpec, at: Path): FieldErrors {
  const errors: FieldError[] = [];
  const volumes = new Set<string>();
  (spec.volumes ?? []).forEach((volume, i) => {
    const here = at.child('volumes').index(i);
    errors.push(...validateVolume(volume, here));
    if (volumes.has(volume.name)) errors.push(duplicate(here.child('name'), volume.name));
    volumes.add(volume.name);
  });
  if ((spec.containers ?? []).length === 0) errors.push(required(at.child('containers')));
  const names = new Set<string>();
  for (const field of ['initContainers', 'containers', 'ephemeralContainers'] as const) {
    ((spec[field] ?? []) as Container[]).forEach((container, i) => {
      const here = at.child(field).index(i);
      errors.push(...validateContainer(container, here, volumes, field));
      if (names.has(container.name)) errors.push(duplicate(here.child('name'), container.name));
      names.add(container.name);
    });
  }
  errors.push(...validateHostPorts(spec, at), ...validatePodNetwork(spec, at));
  if ((spec.terminationGracePeriodSeconds ?? 0) < 0) {
    errors.push(
      invalid(
        at.child('terminationGracePeriodSeconds'),
        spec.terminationGracePeriodSeconds,
        'must be greater than or equal to 0',
      ),
    );
  }
  if (
    spec.activeDeadlineSeconds !== undefined &&
    (spec.activeDeadlineSeconds < 1 || spec.activeDeadlineSeconds > 2147483647)
  ) {
    errors.push(
      invalid(
        at.child('activeDeadlineSeconds'),
        spec.activeDeadlineSeconds,
        'must be between 1 and 2147483647, inclusive',
      ),
    );
  }
  if (spec.nodeSelector) errors.push(...validateLabels(spec.nodeSelector, at.child('nodeSelector')));
  for (const [field, check] of [
    ['serviceAccountName', dns1123Subdomain],
    ['nodeName', dns1123Subdomain],
  ] as const) {
    const value = spec[field];
    if (value) errors.push(...check(value).map((message) => invalid(at.child(field), value, message)));
  }
  (spec.tolerations ?? []).forEach((toleration, i) => {
    errors.push(...validateToleration(toleration, at.child('tolerations').index(i)));
  });
  return errors;
}

function validateToleration(toleration: NonNullable<PodSpec['tolerations']>[number], at: Path): FieldError[] {
  const errors: FieldError[] = [];
  const { key, operator, value, effect, tolerationSeconds } = toleration;
  if (!key && operator !== 'Exists')
    errors.push(
      invalid(
        at.child('operator'),
        operator ?? '',
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      ),
    );
  if (tolerationSeconds !== undefined && effect !== 'NoExecute')
    errors.push(
      invalid(at.child('effect'), effect ?? '', "effect must be 'NoExecute' when `tolerationSeconds` is set"),
    );
  if (operator === 'Exists' && value)
    errors.push(invalid(at.child('operator'), toleration, "value must be empty when `operator` is 'Exists'"));
  return errors;
}

function validatePodNetwork(spec: PodSpec, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ['hostname', 'subdomain'] as const) {
    const value = spec[field];
    if (value) errors.push(...dns1123Label(value).map((message) => invalid(at.child(field), value, message)));
  }
  (spec.hostAliases ?? []).forEach(({ ip }, i) => {
    const here = at.child('hostAliases').index(i).child('ip');
    errors.push(...ipAddress(ip ?? '').map((message) => invalid(here, ip, message)));
  });
  const nameservers = spec.dnsConfig?.nameservers ?? [];
  if (spec.dnsPolicy === 'None' && nameservers.length === 0) {
    errors.push(
      required(
        at.child('dnsConfig', 'nameservers'),
        'must provide at least one DNS nameserver when `dnsPolicy` is None',
      ),
    );
  }
  if (nameservers.length > 3)
    errors.push(invalid(at.child('dnsConfig', 'nameservers'), nameservers, 'must not have more than 3 nameservers'));
  nameservers.forEach((server, i) => {
    const here = at.child('dnsConfig', 'nameservers').index(i);
    errors.push(...ipAddress(server).map((message) => invalid(here, server, message)));
  });
  return errors;
}

function validateHostPorts(spec: PodSpec, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  const taken = new Set<string>();
  (spec.containers ?? []).forEach((container, i) => {
    (container.ports ?? []).forEach((port, j) => {
      if (!port.hostPort) return;
      const here = at.child('containers').index(i).child('ports').index(j).child('hostPort');
      if (spec.hostNetwork && port.hostPort !== port.containerPort)
        errors.push(
          invalid(
            at.child('containers').index(i).child('ports').index(j).child('containerPort'),
            port.containerPort,
            'must match `hostPort` when `hostNetwork` is true',
          ),
        );
      const key = `${port.protocol}/${port.hostIP ?? ''}/${port.hostPort}`;
      if (taken.has(key)) errors.push(duplicate(here, key));
      taken.add(key);
    });
  });
  return errors;
}

function validateVolume(volume: NonNullable<PodSpec['volumes']>[number], at: Path): FieldError[] {
  const errors = volume.name
    ? dns1123Label(volume.name).map((message) => invalid(at.child('name'), volume.name, message))
    : [];
  const sources = Object.keys(volume).filter((key) => key !== 'name');
  if (sources.length === 0) errors.push(required(at, 'must specify a volume type'));
  for (const extra of sources.slice(1))
    errors.push(forbidden(at.child(extra), 'may not specify more than 1 volume type'));
  if (volume.hostPath && !volume.hostPath.path) errors.push(required(at.child('hostPath', 'path')));
  if (volume.secret && !volume.secret.secretName) errors.push(required(at.child('secret', 'secretName')));
  if (volume.configMap && !volume.configMap.name) errors.push(required(at.child('configMap', 'name')));
  return errors;
}

function validateContainer(
  container: Container,
  at: Path,
  volumes: ReadonlySet<string>,
  field: 'initContainers' | 'containers' | 'ephemeralContainers',
): FieldError[] {
  const errors: FieldError[] = [];
  if (container.name)
    errors.push(...dns1123Label(container.name).map((message) => invalid(at.child('name'), container.name, message)));
  if (!container.image) errors.push(required(at.child('image')));
  else if (container.image !== container.image.trim())
    errors.push(invalid(at.child('image'), container.image, 'must not have leading or trailing whitespace'));
  errors.push(...validatePorts(container, at.child('ports')), ...validateEnv(container, at));
  errors.push(
    ...validateMounts(container, at.child('volumeMounts'), volumes),
    ...validateResources(container.resources, at.child('resources')),
  );
  const restartable = field === 'containers' || container.restartPolicy === 'Always';
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe'] as const) {
    const value = container[probe];
    if (!value) continue;
    if (!restartable && field === 'initContainers')
      errors.push(forbidden(at.child(probe), 'may not be set for init containers without restartPolicy=Always'));
    else errors.push(...validateProbe(value, at.child(probe), probe !== 'readinessProbe'));
  }
  return errors;
}

function validatePorts(container: Container, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<string>();
  (container.ports ?? []).forEach((port, i) => {
    const here = at.index(i);
    if (port.name) {
      errors.push(...portName(port.name).map((message) => invalid(here.child('name'), port.name, message)));
      if (names.has(port.name)) errors.push(duplicate(here.child('name'), port.name));
      names.add(port.name);
    }
    if (!port.containerPort) errors.push(required(here.child('containerPort')));
    else
      errors.push(
        ...portNumber(port.containerPort).map((m) => invalid(here.child('containerPort'), port.containerPort, m)),
      );
    if (port.hostPort)
      errors.push(...portNumber(port.hostPort).map((m) => invalid(here.child('hostPort'), port.hostPort, m)));
  });
  return errors;
}

const FIELD_PATHS = new Set([
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'metadata.labels',
  'metadata.annotations',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
]);

function validateEnv(container: Container, at: Path): FieldError[] {
  const errors: FieldError[] = [];
  (container.env ?? []).forEach((variable, i) => {
    const here = at.child('env').index(i);
    if (variable.name)
      errors.push(...envVarName(variable.name).map((m) => invalid(here.child('name'), variable.name, m)));
    const sources = Object.entries(variable.valueFrom ?? {});
    if (variable.valueFrom && sources.length === 0)
      errors.push(
        invalid(
          here.child('valueFrom'),
          '',
          'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`',
        ),
      );
    if (variable.valueFrom && variable.value)
      errors.push(invalid(here.child('valueFrom'), '', 'may not be specified when `value` is not empty'));
    if (sources.length > 1)
      errors.push(invalid(here.child('valueFrom'), '', 'may not have more than one field specified at a time'));
    const fieldPath = variable.valueFrom?.fieldRef?.fieldPath;
    if (fieldPath && !FIELD_PATHS.has(fieldPath) && !/^metadata\.(labels|annotations)\['.+'\]$/.test(fieldPath))
      errors.push(
        invalid(
          here.child('valueFrom', 'fieldRef', 'fieldPath'),
          fieldPath,
          `error converting fieldPath: field label not supported: ${fieldPath}`,
        ),
      );
  });
  (container.envFrom ?? []).forEach((source, i) => {
    const here = at.child('envFrom').index(i);
    if (!source.configMapRef && !source.secretRef)
      errors.push(invalid(here, '', 'must specify one of: `configMapRef` or `secretRef`'));
  });
  return errors;
}

function validateMounts(container: Container, at: Path, volumes: ReadonlySet<string>): FieldError[] {
  const errors: FieldError[] = [];
  const paths = new Set<string>();
  (container.volumeMounts ?? []).forEach((mount, i) => {
    const here = at.index(i);
    if (mount.name && !volumes.has(mount.name)) errors.push(notFound(here.child('name'), mount.name));
    if (mount.mountPath) {
      if (paths.has(mount.mountPath)) errors.push(invalid(here.child('mountPath'), mount.mountPath, 'must be unique'));
      paths.add(mount.mountPath);
    }
    if (mount.subPath && (mount.subPath.startsWith('/') || mount.subPath.split('/').includes('..')))
      errors.push(invalid(here.child('subPath'), mount.subPath, "must not contain '..'"));
  });
  return errors;
}

export function validateResources(resources: Container['resources'], at: Path): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ['limits', 'requests'] as const) {
    for (const [name, amount] of Object.entries(resources?.[field] ?? {})) {
      if (compareQuantities(String(amount), '0') < 0)
        errors.push(invalid(at.child(field).key(name), amount, 'must be greater than or equal to 0'));
    }
  }
  const limits = new Map(Object.entries(resources?.limits ?? {}));
  for (const [name, request] of Object.entries(resources?.requests ?? {})) {
    const limit = limits.get(name);
    if (limit !== undefined && compareQuantities(String(request), String(limit)) > 0)
      errors.push(invalid(at.child('requests'), request, `must be less than or equal to ${name} limit of ${limit}`));
  }
  return errors;
}

function validateProbe(probe: Probe, at: Path, successMustBeOne: boolean): FieldError[] {
  const errors: FieldError[] = [];
  const handlers = (['exec', 'httpGet', 'tcpSocket', 'grpc'] as const).filter((name) => probe[name] !== undefined);
  if (handlers.length === 0) errors.push(required(at, 'must specify a handler type'));
  for (const extra of handlers.slice(1))
    errors.push(forbidden(at.child(extra), 'may not specify more than 1 handler type'));
  if (probe.exec && (probe.exec.command ?? []).length === 0) errors.push(required(at.child('exec', 'command')));
  for (const handler of ['httpGet', 'tcpSocket'] as const) {
    const port = probe[handler]?.port;
    if (port === undefined) continue;
    const messages = typeof port === 'number' ? portNumber(port) : portName(port);
    errors.push(...messages.map((message) => invalid(at.child(handler, 'port'), port, message)));
  }
  for (const field of [
    'initialDelaySeconds',
    'timeoutSeconds',
    'periodSeconds',
    'successThreshold',
    'failureThreshold',
  ] as const) {
    const value = probe[field];
    if (value !== undefined && value < 0)
      errors.push(invalid(at.child(field), value, 'must be greater than or equal to 0'));
  }
  if (successMustBeOne && probe.successThreshold !== undefined && probe.successThreshold !== 1)
    errors.push(invalid(at.child('successThreshold'), probe.successThreshold, 'must be 1'));
  return errors;
}
