import { iptablesMode } from './services-modes.ts';
import { testOracle } from './services-oracle.ts';

testOracle(iptablesMode, 12);
