// What this machine can do at best, measured: the benchmarks compare with it.
#pragma once
#include "lstm.h"

namespace undertow {

// Float32 multiply-adds, in flops a second: `threads` threads at once, for about `seconds`. 0 where the system gives
// fewer threads.
double fma_peak(const Kernels& kernels, int threads, double seconds);

// Seconds in which a cache line goes from one thread to another: half of there and back, the median of some series of
// `rounds`. 0 where there is but one thread.
double handover(int rounds);

}  // namespace undertow
