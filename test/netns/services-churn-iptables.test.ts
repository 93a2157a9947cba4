import { testChurn } from './services-churn.ts';
import { iptablesMode } from './services-modes.ts';

testChurn(iptablesMode, 3000, 10);
