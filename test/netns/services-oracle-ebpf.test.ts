import { ebpfMode } from './services-ebpf-mode.ts';
import { testOracle } from './services-oracle.ts';

testOracle(ebpfMode, 40);
