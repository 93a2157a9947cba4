/** The pod's specification cannot be carried out now: reason and message go into the container's waiting state. */
export class ContainerConfigError extends Error {
  override readonly name = 'ContainerConfigError';
}
