/**
 * The CNI part of an agent as a process of its own, to be killed by tests: it works in the namespace it is started in.
 * Prints "ready", then "attached" when a pod's hook runs; the hook never ends when "hang" is given.
 */
import { writeSync } from 'node:fs';
import { createLogger } from '../../src/base/log.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { reservationsFromKernel } from '../../src/node/cni/pod-adoption.ts';
import { PodNetwork } from '../../src/node/cni/pod-network.ts';
import { CniServer } from '../../src/node/cni/server.ts';
import { Ipam } from '../../src/node/ipam/ipam.ts';

const [journal, socketPath, podCidrs, behaviour] = process.argv.slice(2) as [string, string, string, string];
const log = createLogger('agent');
const abort = new AbortController();
process.on('SIGTERM', () => abort.abort());
const rtnl = Rtnetlink.open();
const ipam = await Ipam.open({
  path: journal,
  podCidrs: podCidrs.split(','),
  log,
  recover: () => reservationsFromKernel(rtnl),
});
const attached = async () => {
  writeSync(1, 'attached\n');
  if (behaviour === 'hang') await new Promise(() => setInterval(() => {}, 1000));
};
const network = new PodNetwork({ ipam, log, mtu: () => 1450, hooks: [{ attached, detached: async () => {} }] });
await network.start(abort.signal);
const server = new CniServer({ socketPath, network, log });
await server.start(abort.signal);
writeSync(1, 'ready\n');
await server.stopped;
network.close();
ipam.close();
process.exit(0);
