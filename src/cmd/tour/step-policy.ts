/** A default-deny policy blocks, an allow by label opens, removing both restores. */
import type { Stage } from './stage.ts';

const DENY = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: default-deny }
spec:
  podSelector: {}
  policyTypes: [Ingress]
`;

const ALLOW = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: allow-friends }
spec:
  podSelector: { matchLabels: { run: pod-b } }
  ingress:
  - from: [{ podSelector: { matchLabels: { friend: "yes" } } }]
    ports: [{ port: 80 }]
`;

const CURL = 'curl -s -o /dev/null -w %{http_code} --max-time 1 http://pod-b-service';

export async function networkPolicy(stage: Stage): Promise<void> {
  stage.claim('without a policy pod-a reaches pod-b', await reaches(stage, 'pod-a', true));
  await stage.kubectl('apply -f -', { input: DENY });
  stage.claim('default-deny: pod-a is silently dropped', await reaches(stage, 'pod-a', false));
  await stage.kubectl('apply -f -', { input: ALLOW });
  stage.claim('the allow does not match pod-a yet', await reaches(stage, 'pod-a', false));
  await stage.kubectl('label pod pod-a friend=yes');
  stage.claim('with the label pod-a reaches pod-b again', await reaches(stage, 'pod-a', true));
  stage.claim('pod-c, without the label, does not', await reaches(stage, 'pod-c', false));
  await stage.kubectl('delete networkpolicy default-deny allow-friends');
  stage.claim('without the policies pod-c reaches pod-b', await reaches(stage, 'pod-c', true));
}

/** Whether the pod comes to reach pod-b, or not to reach it, within five seconds; shows the last try. */
async function reaches(stage: Stage, pod: string, expected: boolean): Promise<boolean> {
  const attempt = async () =>
    (await stage.tryKubectl(`exec ${pod} -- ${CURL}`, { quiet: true })).stdout.trim() === '200';
  await stage.until(
    `${pod} ${expected ? 'reaches' : 'does not reach'} pod-b`,
    async () => ((await attempt()) === expected ? true : undefined),
    5_000,
  );
  const { exitCode, stdout } = await stage.tryKubectl(`exec ${pod} -- ${CURL}`, { lines: 2 });
  return (exitCode === 0 && stdout.trim() === '200') === expected;
}
