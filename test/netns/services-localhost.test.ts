import { ebpfMode } from './services-ebpf-mode.ts';
import { describeLocalhost } from './services-localhost.ts';
import { iptablesMode, nftablesMode } from './services-modes.ts';

for (const mode of [nftablesMode, iptablesMode, ebpfMode]) describeLocalhost(mode);
