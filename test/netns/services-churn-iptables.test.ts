import { testChurn } from './services-churn.ts';
import { iptablesMode } from './services-modes.ts';

testChurn(iptablesMode, { connects: 3000, changes: 10 });
