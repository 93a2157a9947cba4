/** Where an agent tells of denied packets: beside its CNI socket, so who may use the one may read the other. */
export const DROPS_SOCKET = 'podwire-drops.sock';
