import { nftablesMode } from './services-modes.ts';
import { testOracle } from './services-oracle.ts';

testOracle(nftablesMode, 40);
