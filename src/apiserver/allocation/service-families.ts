/**
 * Which address families a Service has: from its policy, families and addresses to the full lists, as the Service REST
 * storage of Kubernetes does it (KEP-563). Changes the spec; returns errors instead of throwing.
 */
import { type Family, familyName, familyOf, isIp } from '../../base/ip.ts';
import type { ServiceDraft } from '../resources/service-types.ts';
import { type FieldError, invalid, path } from '../validation/field.ts';

type Spec = ServiceDraft['spec'];
type FamilyName = 'IPv4' | 'IPv6';

const at = path('spec');
const otherOf = (family: FamilyName): FamilyName => (family === 'IPv4' ? 'IPv6' : 'IPv4');

/** `configured`: the cluster's families, primary first. */
export function completeFamilies(
  spec: Spec,
  old: Spec | undefined,
  configured: readonly Family[],
): readonly FieldError[] {
  trimForSingleStack(spec, old);
  const names = configured.map(familyName);
  const isHeadless = spec.clusterIPs?.[0] === 'None';
  const addresses = isHeadless ? [] : (spec.clusterIPs ?? []).filter(isIp);
  const hasSelector = Object.keys(spec.selector ?? {}).length > 0;
  const asked = (spec.ipFamilies ?? []).length;
  if (spec.ipFamilyPolicy === undefined) {
    const free = isHeadless && !hasSelector && asked === 0 && names.length > 1;
    spec.ipFamilyPolicy = free ? 'RequireDualStack' : 'SingleStack';
  }
  const errors = [...checkPolicy(spec, addresses, names), ...checkAgreement(spec, addresses)];
  if (errors.length > 0) return errors;
  const list = [...((spec.ipFamilies ?? []) as FamilyName[])];
  for (const address of addresses.slice(list.length)) list.push(familyName(familyOf(address)));
  if (list.length === 0) list.push(names[0]!);
  if (spec.ipFamilyPolicy !== 'SingleStack' && names.length > 1 && list.length === 1) list.push(otherOf(list[0]!));
  spec.ipFamilies = list;
  const unknown = list.findIndex((family) => !names.includes(family));
  if (unknown >= 0)
    return [invalid(at.child('ipFamilies').index(unknown), list[unknown], 'not configured on this cluster')];
  return [];
}

/** A change to SingleStack gives up the second address without naming it. */
function trimForSingleStack(spec: Spec, old: Spec | undefined): void {
  if (!old || spec.ipFamilyPolicy !== 'SingleStack' || old.ipFamilyPolicy === 'SingleStack') return;
  if (spec.clusterIPs?.length === 2 && spec.clusterIPs[1] === old.clusterIPs?.[1])
    spec.clusterIPs = [spec.clusterIPs[0]!];
  if (spec.ipFamilies?.length === 2 && spec.ipFamilies[1] === old.ipFamilies?.[1])
    spec.ipFamilies = [spec.ipFamilies[0]!];
}

function checkPolicy(spec: Spec, addresses: readonly string[], names: readonly FamilyName[]): FieldError[] {
  const policy = spec.ipFamilyPolicy;
  const where = at.child('ipFamilyPolicy');
  if (policy === 'RequireDualStack' && names.length < 2)
    return [invalid(where, policy, 'this cluster is not configured for dual-stack services')];
  if (policy !== 'SingleStack') return [];
  const must = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
  if (addresses.length > 1) return [invalid(where, policy, `${must} cluster IPs are specified`)];
  if ((spec.ipFamilies ?? []).length > 1) return [invalid(where, policy, `${must} IP families are specified`)];
  return [];
}

/** Addresses are of the families in the same places. */
function checkAgreement(spec: Spec, addresses: readonly string[]): FieldError[] {
  const errors = addresses.flatMap((address, i) => {
    const wanted = spec.ipFamilies?.[i];
    return wanted === undefined || familyName(familyOf(address)) === wanted
      ? []
      : [
          invalid(
            at.child('clusterIPs').index(i),
            address,
            `expected an ${wanted} value as indicated by \`ipFamilies[${i}]\``,
          ),
        ];
  });
  if (addresses.length === 2 && familyOf(addresses[0]!) === familyOf(addresses[1]!))
    errors.push(invalid(at.child('clusterIPs'), spec.clusterIPs, 'may specify no more than one IP for each IP family'));
  return errors;
}
