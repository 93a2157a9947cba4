/** The conformance matrix: every case, most of them in both directions. */
import { combinations, twoSided } from './testing-matrix-combinations.ts';
import { type Draft, inDirection, type MatrixCase, nobody, peerCase, portCase } from './testing-matrix-drafts.ts';
import { peers, subjects } from './testing-matrix-peers.ts';
import { ports } from './testing-matrix-ports.ts';

export function matrixCases(): MatrixCase[] {
  const drafts: Draft[] = [
    ...subjects.map(([name, policy, isolated]): Draft => ({ name, policies: [policy], isolated, allowed: nobody })),
    ...peers.map(([name, list, who]) => peerCase(name, list, who)),
    ...ports.map(([name, list, what]) => portCase(name, list, what)),
    ...combinations,
  ];
  const played = (['ingress', 'egress'] as const).flatMap((each) => drafts.map((draft) => inDirection(each, draft)));
  return [...played, ...twoSided()];
}
