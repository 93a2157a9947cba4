/**
 * A process with the Services part of podwire's agent, wired as in `src/cmd/agent.ts`: `agent.ts KUBECONFIG NODE`, started
 * inside the node's network namespace. Prints a line when everything is in force. Ends with its standard input.
 */
import { silentLogger } from '../../../src/base/log.ts';
import { compactObject } from '../../../src/kube/compact.ts';
import { HttpClient } from '../../../src/kube/http-client.ts';
import { Informer } from '../../../src/kube/informer.ts';
import { Conntrack } from '../../../src/linux/conntrack.ts';
import { Nftables } from '../../../src/linux/nftables.ts';
import { ServicesController } from '../../../src/node/services/controller.ts';
import { nftablesRules } from '../../../src/node/services/nftables/reconciler.ts';

/** What is printed. */
export interface StartedAgent {
  /** From all of the API read to all in force, in milliseconds. */
  readonly syncMs: number;
}

async function start(kubeconfig: string, nodeName: string): Promise<StartedAgent> {
  const { signal } = new AbortController();
  const all = { client: HttpClient.fromKubeconfig(kubeconfig, `podwire-agent/${nodeName}`), log: silentLogger };
  const informers = {
    services: new Informer('Service', { ...all, transform: compactObject }),
    endpointSlices: new Informer('EndpointSlice', { ...all, transform: compactObject }),
    pods: new Informer('Pod', all),
    nodes: new Informer('Node', all),
  };
  const controller = new ServicesController({
    nodeName,
    informers,
    rules: nftablesRules(Nftables.open()),
    conntrack: Conntrack.open(),
    podCidrs: ['10.244.0.0/16'],
    serviceCidrs: ['10.96.0.0/12'],
    nodeAddresses: ['192.0.2.1'],
    log: silentLogger,
  });
  const started = controller.start(signal);
  await Promise.all(Object.values(informers).map((informer) => informer.start(signal)));
  const began = performance.now();
  await started;
  return { syncMs: performance.now() - began };
}

const [kubeconfig = '', nodeName = ''] = process.argv.slice(2);
process.stdout.write(`${JSON.stringify(await start(kubeconfig, nodeName))}\n`);
process.stdin.on('close', () => process.exit()).resume();
