import { ebpfMode } from './services-ebpf-mode.ts';
import { describePackets } from './services-packets.ts';

describePackets(ebpfMode);
