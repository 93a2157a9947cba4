/**
 * The bits of the packet mark (nftables "meta mark") that podwire's components share on a node. They meet here because
 * components of one level never import each other.
 */

/** Set by the Service rules on a packet whose source must be rewritten to the node's address on its way out. */
export const MASQUERADE_MARK = 0x40000000;
