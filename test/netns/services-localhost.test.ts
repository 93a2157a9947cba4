import { ebpfMode } from './services-ebpf-mode.ts';
import { describeLocalhost } from './services-localhost.ts';
import { nftablesMode } from './services-modes.ts';

for (const mode of [nftablesMode, ebpfMode]) describeLocalhost(mode);
