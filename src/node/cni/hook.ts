/** What other components do when a pod gets or loses its network. The policy engine is the first of them. */

export interface AttachedPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** One address per family. */
  readonly ips: readonly string[];
  /** The node's end of the pod's veth. */
  readonly hostInterface: string;
}

export interface PodNetworkHook {
  /**
   * Awaited before the pod's first packet can pass: the pod's interface is complete, but its host end is down. A
   * rejection makes ADD fail and undoes everything. Called again for each pod after an agent's restart.
   */
  attached(pod: AttachedPod): Promise<void>;
  /** After the pod's last packet: its host end is down already. A rejection is logged; the pod goes nevertheless. */
  detached(pod: AttachedPod): Promise<void>;
}
