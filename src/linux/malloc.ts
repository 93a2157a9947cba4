/** Gives memory that the C library's allocator holds free back to the kernel: malloc_trim(3). */
import koffi from 'koffi';

let trim: ((pad: number) => number) | undefined;

/** False when there was nothing to give back, or the C library has no malloc_trim (musl). */
export function trimMalloc(): boolean {
  try {
    trim ??= koffi.load('libc.so.6').func('int malloc_trim(size_t pad)') as (pad: number) => number;
    return trim(0) === 1;
  } catch {
    return false;
  }
}
