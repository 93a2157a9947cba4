/**
 * Being told when a descriptor can be read or written, for descriptors that Node's own classes refuse (netlink).
 *
 * koffi can put a descriptor into libuv's event loop (76 us from event to callback, no thread). It does not document
 * that, so it stays behind this file, with asking poll(2) on a timer as the way out should it ever go.
 */
import koffi from 'koffi';
import { KernelError } from './errors.ts';
import { check, libc } from './libc.ts';

// poll.h
const POLLIN = 0x001;
const POLLOUT = 0x004;
/** Pause between two questions of the timer, ms. */
const TIMER_PERIOD = 20;

export interface Watch {
  /** Ends the watching; the descriptor stays open and must be closed by its owner afterwards. */
  close(): void;
  /** Lets the process end although the watch is open. */
  unref(): void;
}

/** Calls back each time the descriptor has something to read, until closed. The callback must take what is there. */
export function watchReadable(fd: number, onReadable: () => void): Watch {
  return hasKoffiPoll() ? watchByLoop(fd, 'readable', onReadable) : watchByTimer(fd, POLLIN, onReadable);
}

/** Calls back when the descriptor can be written (a connect has ended), until closed. */
export function watchWritable(fd: number, onWritable: () => void): Watch {
  return hasKoffiPoll() ? watchByLoop(fd, 'writable', onWritable) : watchByTimer(fd, POLLOUT, onWritable);
}

function hasKoffiPoll(): boolean {
  return typeof koffi.node?.poll === 'function';
}

function watchByLoop(fd: number, event: 'readable' | 'writable', callback: () => void): Watch {
  let open = true;
  const handle = koffi.node.poll(fd, { [event]: true }, () => {
    if (open) callback();
  });
  return {
    close: () => {
      if (!open) return;
      open = false;
      handle.stop();
      handle.close();
    },
    unref: () => handle.unref(),
  };
}

/** The way that needs nothing but poll(2). Exported for its test. */
export function watchByTimer(fd: number, events: number, callback: () => void): Watch {
  const request = Buffer.alloc(8);
  request.writeInt32LE(fd, 0);
  request.writeInt16LE(events, 4);
  const timer = setInterval(() => {
    const ready = libc.poll(request, 1, 0);
    if (ready > 0) callback();
    else if (ready < 0) ignoreInterruption();
  }, TIMER_PERIOD);
  return { close: () => clearInterval(timer), unref: () => timer.unref() };
}

function ignoreInterruption(): void {
  try {
    check('poll', -1);
  } catch (error) {
    if (!(error instanceof KernelError) || error.code !== 'EINTR') throw error;
  }
}
