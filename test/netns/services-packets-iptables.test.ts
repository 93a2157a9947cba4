import { iptablesMode } from './services-modes.ts';
import { describePackets } from './services-packets.ts';

describePackets(iptablesMode);
