/** Endpoints of the mode ipvs come and go while clients connect: 400 at least, as many as an emulated processor manages meanwhile. */
import { testChurn } from '../netns/services-churn.ts';
import { ipvsMode } from '../netns/services-modes.ts';

testChurn(ipvsMode, { connects: 150, pauseMs: 50, changes: 20, endpoints: 5 });
