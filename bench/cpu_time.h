// CPU seconds of this thread: what a kernel costs, on a machine that others use too.
#pragma once

#include <time.h>

namespace longhaul {

inline double ThreadCpuSeconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// CPU seconds of one call, the best of several.
template <class Work>
double BestCpuSeconds(int repeats, Work&& work) {
  double best = 0;
  for (int i = 0; i < repeats; ++i) {
    const double start = ThreadCpuSeconds();
    work();
    const double took = ThreadCpuSeconds() - start;
    if (i == 0 || took < best) best = took;
  }
  return best;
}

}  // namespace longhaul
