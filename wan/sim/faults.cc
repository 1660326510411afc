#include "wan/sim/faults.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "common/rng.h"

namespace longhaul::sim {
namespace {

// `per_mille_of_seeds`: how many seeds have this kind at all; then its rate is drawn from
// [1, most_per_million], with small rates as likely as large ones.
struct KindInfo {
  std::string_view name;
  uint32_t per_mille_of_seeds;
  uint32_t most_per_million;
};
constexpr std::array<KindInfo, kFaultKinds> kKinds = {{
    {"loss", 600, 200'000},           {"duplicate", 600, 200'000},
    {"reorder", 600, 200'000},        {"corrupt_chunk", 400, 100'000},
    {"partition", 400, 1'000'000},    {"one_way_partition", 400, 1'000'000},
    {"swizzle", 300, 1'000'000},      {"slow_link", 300, 1'000'000},
    {"worker_kill", 600, 1'000'000},  {"worker_pause", 500, 1'000'000},
    {"worker_slow", 500, 1'000'000},  {"worker_drift", 300, 1'000'000},
    {"worker_leave", 300, 1'000'000}, {"twin", 300, 1'000'000},
    {"byzantine", 300, 50'000},       {"coordinator_kill", 500, 3'000},
    {"power_loss", 400, 3'000},       {"clock_back", 300, 500'000},
    {"roll_back", 200, 1'000'000},    {"stop_at_disk", 400, 3'000},
    {"disk_error", 200, 1'000},       {"disk_full", 150, 1'000},
    {"bit_flip", 150, 300'000},       {"reducer_stall", 250, 3'000},
    {"replan", 300, 1'000'000},
}};

}  // namespace

std::string_view FaultName(FaultKind kind) { return kKinds[static_cast<size_t>(kind)].name; }

Faults::Faults(uint64_t seed, uint64_t off) : seed_(Draw(seed, {0xfa017})) {
  for (size_t k = 0; k < kFaultKinds; ++k) {
    Rng rng(Draw(seed_, {k, 1}));
    if (!rng.Chance(kKinds[k].per_mille_of_seeds, 1000)) continue;
    // Halved a random number of times: small rates are as likely as large ones.
    const uint64_t most = kKinds[k].most_per_million >> rng.Below(6);
    rate_[k] = static_cast<uint32_t>(1 + rng.Below(std::max<uint64_t>(1, most)));
    if ((off >> k) & 1) rate_[k] = 0;
  }
}

uint64_t Faults::Next(FaultKind kind) {
  return Draw(seed_, {Index(kind), 2, draws_[Index(kind)]++});
}

bool Faults::Happens(FaultKind kind) {
  if (!enabled(kind)) return false;
  if (Next(kind) % 1'000'000 >= rate_[Index(kind)]) return false;
  Count(kind);
  return true;
}

uint64_t Faults::Below(FaultKind kind, uint64_t n) { return Next(kind) % n; }

Duration Faults::Between(FaultKind kind, Duration least, Duration most) {
  return least + Duration(Below(kind, static_cast<uint64_t>((most - least).count()) + 1));
}

Duration Faults::NextAfter(FaultKind kind, Duration mean) {
  if (!enabled(kind)) return Duration(-1);
  return Between(kind, mean / 8, 2 * mean);
}

uint64_t Faults::total() const {
  return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0});
}

std::string Faults::Describe() const {
  std::string text;
  for (size_t k = 0; k < kFaultKinds; ++k) {
    if (rate_[k] == 0) continue;
    char line[64];
    std::snprintf(line, sizeof line, "%s%s %.3g", text.empty() ? "" : ", ", kKinds[k].name.data(),
                  static_cast<double>(rate_[k]) * 1e-6);
    text += line;
  }
  return text.empty() ? "none" : text;
}

}  // namespace longhaul::sim
