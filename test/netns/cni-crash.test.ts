/** The agent dies at the worst moment: nothing leaks, and what ran goes on. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Lab, type LabNode, talk } from './cni-lab.ts';

const AGENT = fileURLToPath(new URL('./cni-agent.ts', import.meta.url));

/** An agent process inside the node's namespace. */
class Agent implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #output = '';
  #wake = Promise.withResolvers<void>();

  private constructor(node: LabNode, behaviour: string) {
    const argv = [AGENT, join(node.folder, 'ipam'), node.socketPath, node.podCidrs.join(','), behaviour];
    const env = { ...process.env, PODWIRE_LOG: 'silent' };
    this.#child = node.ns.run(() => spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'], env }));
    this.#closed = once(this.#child, 'close');
    this.#child.stdout!.on('data', (chunk) => {
      this.#output += chunk;
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    });
  }

  static async start(node: LabNode, behaviour = ''): Promise<Agent> {
    const agent = new Agent(node, behaviour);
    await agent.says('ready');
    return agent;
  }

  async says(word: string): Promise<void> {
    while (!this.#output.includes(word)) {
      const ended = await Promise.race([this.#wake.promise, this.#closed]);
      if (ended) throw new Error('the agent ended');
    }
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    this.#child.kill(signal);
    await this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

const podLinks = (node: LabNode) =>
  node.rtnl
    .links({ kind: 'veth' })
    .filter(({ name }) => name.startsWith('pw'))
    .map(({ name }) => name);

test('killed in the middle of ADD: the runtime hears "try again", DEL leaves nothing', {
  timeout: 60_000,
}, async () => {
  await using lab = await Lab.create({ bare: true });
  const [node] = lab.nodes as [LabNode];
  const pod = node.newPod('a');
  {
    await using agent = await Agent.start(node, 'hang');
    const answer = pod.cni('ADD');
    await agent.says('attached');
    assert.equal(podLinks(node).length, 1);
    await agent.kill();
    const { exitCode, json } = await answer;
    assert.deepEqual([exitCode, json.code], [1, 11]);
    assert.match(json.msg ?? '', /went away while it worked/);
  }
  await using _ = await Agent.start(node);
  assert.deepEqual(await pod.cni('DEL'), { exitCode: 0, json: {} });
  assert.deepEqual(podLinks(node), []);
  const other = await node.addPod('b');
  assert.equal(other.addresses[0], '10.244.0.3');
});

test('killed in the middle of ADD, no DEL ever comes: GC frees it, or ADD takes it up', {
  timeout: 60_000,
}, async () => {
  await using lab = await Lab.create({ bare: true });
  const [node] = lab.nodes as [LabNode];
  const pods = [node.newPod('a'), node.newPod('b')] as const;
  {
    await using agent = await Agent.start(node, 'hang');
    const answers = pods.map((pod) => pod.cni('ADD'));
    while (podLinks(node).length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    await agent.kill();
    await Promise.all(answers);
  }
  await using _ = await Agent.start(node);
  const again = await pods[0].cni('ADD');
  assert.equal(again.exitCode, 0, JSON.stringify(again));
  assert.equal((await pods[0].cni('CHECK')).exitCode, 0);
  const valid = [{ containerID: pods[0].containerId, ifname: 'eth0' }];
  assert.equal((await pods[1].cni('GC', { 'cni.dev/valid-attachments': valid })).exitCode, 0);
  assert.equal(podLinks(node).length, 1);
});

test('killed at random moments under load: all is gone after the DELs', { timeout: 90_000 }, async () => {
  await using lab = await Lab.create({ bare: true });
  const [node] = lab.nodes as [LabNode];
  const pods = Array.from({ length: 12 }, (_, i) => node.newPod(`p${i}`));
  for (let round = 0; round < 3; round++) {
    const agent = await Agent.start(node);
    const answers = pods.map((pod) => pod.cni('ADD', { connectTimeoutMs: 100 }));
    await new Promise((resolve) => setTimeout(resolve, 10 + 15 * round));
    await agent.kill();
    const given = (await Promise.all(answers)).flatMap(({ json }) => json.ips?.map(({ address }) => address) ?? []);
    assert.equal(new Set(given).size, given.length, 'an address was given twice');
    await using _ = await Agent.start(node);
    const removals = await Promise.all(pods.map((pod) => pod.cni('DEL')));
    assert.deepEqual(
      removals.map(({ exitCode }) => exitCode),
      pods.map(() => 0),
    );
    assert.deepEqual(podLinks(node), []);
    assert.deepEqual(node.rtnl.routes({ protocol: 113 }), []);
    const fresh = await node.addPod(`fresh${round}`);
    assert.equal((await fresh.cni('DEL')).exitCode, 0);
  }
});

test('pods and their connections outlive the agent; the next one knows them', { timeout: 60_000 }, async () => {
  await using lab = await Lab.create({ bare: true });
  const [node] = lab.nodes as [LabNode];
  const first = await Agent.start(node);
  const [a, b] = [await node.addPod('a'), await node.addPod('b')];
  await b.echo(b.addresses[0]!);
  const connection = await a.connect(b.addresses[0]!, 7);
  await first.kill();
  connection.write('still there');
  let text = '';
  while (!text.includes('still there')) text += String((await once(connection, 'data'))[0]);
  connection.destroy();
  await using _ = await Agent.start(node);
  assert.equal((await a.cni('CHECK')).exitCode, 0);
  assert.equal((await node.addPod('c')).addresses[0], '10.244.0.4');
  assert.ok((await talk(a.ns, b.addresses[0]!, Buffer.from('x'))).intact);
  assert.equal((await a.cni('DEL')).exitCode, 0);
});

test('a journal that is lost or damaged is rebuilt from the kernel', { timeout: 60_000 }, async () => {
  await using lab = await Lab.create({ bare: true });
  const [node] = lab.nodes as [LabNode];
  const journal = join(node.folder, 'ipam');
  let agent = await Agent.start(node);
  await node.addPod('a');
  for (const [i, damage] of [() => rmSync(journal), () => writeFileSync(journal, 'garbage\n')].entries()) {
    await agent.kill();
    damage();
    agent = await Agent.start(node);
    for (const pod of node.pods) assert.equal((await pod.cni('CHECK')).exitCode, 0);
    const next = await node.addPod(`next${i}`);
    assert.equal(new Set(node.pods.map(({ addresses }) => addresses[0])).size, node.pods.length);
    assert.equal((await next.cni('CHECK')).exitCode, 0);
  }
  await agent.kill('SIGTERM');
});

test('interfaces that nobody has a reservation for go at the start', { timeout: 60_000 }, async () => {
  await using lab = await Lab.create({ bare: true });
  const [node] = lab.nodes as [LabNode];
  node.rtnl.createVeth({ name: 'pw00000000000', group: 0x7077, peer: { name: 'x0' } });
  node.rtnl.createVeth({ name: 'pw00000000001', group: 0x7078, peer: { name: 'x1' } });
  node.rtnl.createVeth({ name: 'other', peer: { name: 'x2' } });
  writeFileSync(join(node.folder, 'ipam'), '');
  await using _ = await Agent.start(node);
  assert.deepEqual(podLinks(node), []);
  assert.ok(node.rtnl.link('other'));
});

test('a shim that is killed while the agent works leaves nothing', { timeout: 60_000 }, async () => {
  const gate = Promise.withResolvers<void>();
  const called = Promise.withResolvers<void>();
  const attached = () => {
    called.resolve();
    return gate.promise;
  };
  await using lab = await Lab.create({ hooks: [{ attached, detached: async () => {} }] });
  const [node] = lab.nodes as [LabNode];
  const pod = node.newPod('a');
  const shim = spawn(join(lab.binDir, 'podwire'), {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { CNI_COMMAND: 'ADD', CNI_CONTAINERID: pod.containerId, CNI_NETNS: pod.netnsPath, CNI_IFNAME: 'eth0' },
  });
  shim.stdin.end(JSON.stringify({ cniVersion: '1.1.0', name: 'n', type: 'podwire', socket: node.socketPath }));
  await called.promise;
  shim.kill('SIGKILL');
  await once(shim, 'close');
  gate.resolve();
  for (let i = 0; i < 300 && node.ipam.list().length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(node.ipam.list(), []);
  assert.deepEqual(podLinks(node), []);
});
