/** Service discovery: environment variables and DNS in all its forms. */
import type { Stage } from './stage.ts';

/** What Kubernetes' documentation debugs DNS with; busybox's nslookup knows no search domains for names with dots. */
const IMAGE = 'registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7';

export async function discovery(stage: Stage): Promise<void> {
  const service = await stage.cluster.client.get('Service', { namespace: 'default', name: 'my-service' });
  const address = service.spec.clusterIP!;
  await stage.kubectl(`run finder --image=${IMAGE} --restart=Never`);
  await stage.kubectl('create namespace elsewhere');
  await stage.kubectl(`run finder --image=${IMAGE} --restart=Never --namespace=elsewhere`);
  await stage.waitReady('pod/finder');
  await stage.waitReady('pod/finder --namespace=elsewhere');
  const env = await stage.kubectl(`exec finder -- sh -c 'env | grep MY_SERVICE'`);
  stage.claim(`MY_SERVICE_SERVICE_HOST is ${address}`, env.includes(`MY_SERVICE_SERVICE_HOST=${address}\n`));
  stage.claim('MY_SERVICE_SERVICE_PORT is 80', env.includes('MY_SERVICE_SERVICE_PORT=80\n'));
  await names(stage, address);
  await records(stage, address);
}

async function names(stage: Stage, address: string): Promise<void> {
  const lookups: [pod: string, name: string][] = [
    ['finder', 'my-service'],
    ['finder', 'my-service.default'],
    ['finder', 'my-service.default.svc.cluster.local'],
    ['finder --namespace=elsewhere', 'my-service.default'],
  ];
  for (const [pod, name] of lookups) {
    const { stdout } = await stage.tryKubectl(`exec ${pod} -- nslookup ${name}`);
    stage.claim(`${name} is ${address}`, stdout.includes(`Address: ${address}`) || stdout.includes(`: ${address}`));
  }
  const { exitCode } = await stage.tryKubectl('exec finder --namespace=elsewhere -- nslookup my-service', { lines: 4 });
  stage.claim('the short name means nothing in another namespace', exitCode !== 0);
}

async function records(stage: Stage, address: string): Promise<void> {
  const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'named' } };
  const spec = { selector: { run: 'pod-b' }, ports: [{ name: 'http', port: 80 }] };
  await stage.kubectl('apply -f -', { input: JSON.stringify({ ...service, spec }) });
  const srv = await stage.until('the SRV record', async () => {
    const line = 'exec finder -- nslookup -type=srv _http._tcp.named.default.svc.cluster.local';
    const { stdout } = await stage.tryKubectl(line, { quiet: true });
    return stdout.includes('named.default.svc.cluster.local') && stdout.includes(' 80 ') ? stdout : undefined;
  });
  await stage.kubectl('exec finder -- nslookup -type=srv _http._tcp.named.default.svc.cluster.local');
  stage.claim('the SRV record names port 80', srv.includes(' 80 '));
  const ptr = await stage.kubectl(`exec finder -- nslookup ${address}`);
  stage.claim('the PTR record leads back to the name', ptr.includes('my-service.default.svc.cluster.local'));
}
