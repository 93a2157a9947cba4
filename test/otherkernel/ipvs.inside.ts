/** The mode ipvs against packets: the suites of the other modes. */
import { ipvsMode } from '../netns/services-modes.ts';
import { testOracle } from '../netns/services-oracle.ts';

testOracle(ipvsMode, 6);
