/** A Deployment behind a Service under a client that never stops asking. */
import type { Stage } from './stage.ts';

const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 3
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
      - name: nginx
        image: nginx
        command: [sh, -c, "hostname > /usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'"]
        readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ port: 80 }]
`;

const EXTRA = `apiVersion: v1
kind: Pod
metadata: { name: web-extra, labels: { app: web } }
spec:
  containers:
  - name: nginx
    image: nginx
    command: [sh, -c, "hostname > /usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'"]
    readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 }
`;

/** Prints the answer of each request, or FAILED. */
const loop = (requests: number) =>
  `for i in $(seq ${requests}); do curl -s --max-time 3 http://web || echo FAILED; done`;

export async function deploymentAndClients(stage: Stage): Promise<void> {
  await stage.kubectl('apply -f -', { input: DEPLOYMENT });
  await stage.kubectl('rollout status deployment/web --timeout=60s', { lines: 1 });
  const pods = await stage.kubectl('get pods -l app=web -o wide');
  const names = pods
    .split('\n')
    .slice(1)
    .flatMap((line) => line.split(/\s+/)[0] || []);
  await answersFrom(stage, names, 'load reaches all three');

  const client = stage.background(`exec pod-a -- sh -c '${loop(600)}'`);
  await stage.kubectl('apply -f -', { input: EXTRA });
  await stage.waitReady('pod/web-extra');
  await answersFrom(stage, ['web-extra'], 'the new pod gets its share');

  const victim = names[0]!;
  const before = await stage.cluster.client.get('Pod', { namespace: 'default', name: victim });
  await stage.kubectl(`delete pod ${victim}`);
  await stage.kubectl('rollout status deployment/web --timeout=60s', { lines: 1 });
  const after = await stage.until('a new pod stands in', async () => {
    const { items } = await stage.cluster.client.list('Pod', { namespace: 'default', labelSelector: 'app=web' });
    const fresh = items.find((pod) => ![...names, 'web-extra'].includes(pod.metadata.name));
    return fresh?.status?.podIP ? fresh : undefined;
  });
  await stage.kubectl('get pods -l app=web -o wide');
  const [old, now] = [before.status?.podIP, after.status?.podIP];
  stage.claim(`${victim} (${old}) is gone, ${after.metadata.name} (${now}) stands in`, old !== now);
  await answersFrom(stage, [after.metadata.name], 'it gets its share');

  const answers = (await client).trim().split('\n');
  const failed = answers.filter((answer) => answer === 'FAILED').length;
  stage.claim(
    `the client's ${answers.length} requests meanwhile: 0 failed`,
    failed === 0 && answers.length >= 600,
    `${failed} of ${answers.length} failed`,
  );
}

/** Asks the Service until each of the pods has answered. */
async function answersFrom(stage: Stage, names: readonly string[], text: string): Promise<void> {
  const line = `exec pod-a -- sh -c '${loop(40)}'`;
  const missing = new Set(names);
  await stage.until(text, async () => {
    const { stdout } = await stage.tryKubectl(line, { quiet: true });
    for (const answer of stdout.split('\n')) missing.delete(answer);
    return missing.size === 0 ? true : undefined;
  });
  const shown = await stage.kubectl(`exec pod-a -- sh -c '${loop(40)} | sort | uniq -c'`);
  stage.claim(text, !shown.includes('FAILED'));
}
