/** What kinds with a pod template share: its validation, and how its columns read. */
import { formatSelector, fromLabelSelector, matches } from '../../kube/selectors.ts';
import type { LabelSelector, Pod } from '../../kube/types.ts';
import { type FieldError, type FieldErrors, invalid, notSupported, type Path, required } from '../validation/field.ts';
import { validateAnnotations, validateLabelSelector, validateLabels } from '../validation/meta.ts';
import { defaultPodSpec, type PodSpecDraft } from './pod-defaults.ts';
import { validatePodSpec } from './pod-validation.ts';

export interface Template {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: PodSpecDraft;
}

interface WorkloadSpec {
  readonly replicas?: number;
  readonly selector?: LabelSelector;
  readonly minReadySeconds?: number;
  readonly template?: Template;
}

export function defaultTemplate(template: Template | undefined): void {
  if (template?.spec) defaultPodSpec(template.spec);
}

export function validateWorkload(spec: WorkloadSpec, at: Path): FieldErrors {
  const errors: FieldError[] = [];
  for (const field of ['replicas', 'minReadySeconds'] as const) {
    const value = spec[field];
    if (value !== undefined && value < 0)
      errors.push(invalid(at.child(field), value, 'must be greater than or equal to 0'));
  }
  const { selector, template } = spec;
  if (!selector) errors.push(required(at.child('selector')));
  else {
    errors.push(...validateLabelSelector(selector, at.child('selector')));
    if (Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions ?? []).length === 0)
      errors.push(invalid(at.child('selector'), selector, 'empty selector is invalid for deployment'));
  }
  if (!template) return [...errors, required(at.child('template'))];
  const labels = template.metadata?.labels;
  if (selector && errors.length === 0 && !matches(fromLabelSelector(selector), labels))
    errors.push(
      invalid(
        at.child('template', 'metadata', 'labels'),
        labels ?? null,
        '`selector` does not match template `labels`',
      ),
    );
  return [...errors, ...validateTemplate(template, at.child('template'))];
}

function validateTemplate(template: Template, at: Path): FieldError[] {
  const errors = [
    ...validateLabels(template.metadata?.labels, at.child('metadata', 'labels')),
    ...validateAnnotations(template.metadata?.annotations, at.child('metadata', 'annotations')),
  ];
  const spec = template.spec as unknown as Pod['spec'] | undefined;
  if (!spec) return [...errors, required(at.child('spec', 'containers'))];
  if (spec.restartPolicy && spec.restartPolicy !== 'Always')
    errors.push(notSupported(at.child('spec', 'restartPolicy'), spec.restartPolicy, ['Always']));
  if (spec.activeDeadlineSeconds !== undefined)
    errors.push(
      invalid(
        at.child('spec', 'activeDeadlineSeconds'),
        spec.activeDeadlineSeconds,
        'activeDeadlineSeconds in ReplicaSet is not Supported',
      ),
    );
  return [...errors, ...validatePodSpec(spec, at.child('spec'))];
}

/** The last two wide columns before the selector: names and images of the containers. */
export function containerCells(template: Template | undefined): [string, string] {
  const containers = template?.spec?.containers ?? [];
  return [containers.map(({ name }) => name).join(','), containers.map(({ image }) => image ?? '').join(',')];
}

export function selectorText(selector: LabelSelector | undefined): string {
  if (!selector) return '<none>';
  return formatSelector(fromLabelSelector(selector)) || '<none>';
}

/** The query-string form for Scale. */
export function scaleSelector(selector: LabelSelector | undefined): string {
  return selector ? formatSelector(fromLabelSelector(selector)) : '';
}
