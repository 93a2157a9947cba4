import { testChurn } from './services-churn.ts';
import { ebpfMode } from './services-ebpf-mode.ts';

testChurn(ebpfMode, { connects: 3000, changes: 101 });
