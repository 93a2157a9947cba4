/** Endpoints of the mode ipvs come and go while clients connect: 1,600 servers more or less, in 40 to 50 s of emulated processors. */
import { testChurn } from '../netns/services-churn.ts';
import { ipvsMode } from '../netns/services-modes.ts';

testChurn(ipvsMode, { connects: 300, pauseMs: 50, changes: 400 });
