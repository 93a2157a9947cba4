import { testChurn } from './services-churn.ts';
import { ebpfMode } from './services-ebpf-mode.ts';

testChurn(ebpfMode, 3000, 101);
