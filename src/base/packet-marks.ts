/**
 * The bits of the packet mark (nftables "meta mark") that podwire's components share on a node. They meet here because
 * components of one level never import each other.
 */

/** Set by the Service rules on a packet whose source must be rewritten to the node's address on its way out. */
export const MASQUERADE_MARK = 0x40000000;

/**
 * Set by the Service rules of the mode ipvs on a packet that IPVS takes: it leaves the node by the output hook, not by the forward
 * hook, and whoever judges forwarded packets knows it there by this bit.
 */
export const IPVS_MARK = 0x20000000;
