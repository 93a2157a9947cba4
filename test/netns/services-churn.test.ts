import { testChurn } from './services-churn.ts';
import { nftablesMode } from './services-modes.ts';

testChurn(nftablesMode, 3000, 101);
