// longhaul-fuzz-traces: what tools/trace_equality.py compares between compilers. Prints the hash of
// the first N seeds' traces, and what else must not depend on the compiler.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "wan/sim/fuzz.h"

int main(int argc, char** argv) {
  const uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100;
  const auto summary = longhaul::sim::Fuzz({.seeds = seeds, .rerun_one_in = 0}, {});
  if (!summary.ok() || summary->seeds != seeds) return 1;
  std::printf("{\"seeds\": %" PRIu64 ", \"trace_hash\": \"%016" PRIx64 "\", \"faults\": %" PRIu64
              ", \"commits\": %" PRIu64 ", \"violations\": %zu}\n",
              summary->seeds, summary->trace_hash, summary->total_faults(), summary->commits,
              summary->failures.size());
  return summary->failures.empty() ? 0 : 1;
}
