import { testChurn } from './services-churn.ts';
import { nftablesMode } from './services-modes.ts';

testChurn(nftablesMode, { connects: 3000, changes: 101 });
