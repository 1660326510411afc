#include "coordinator/core/state.h"

#include <algorithm>

#include "coordinator/core/serialize.h"

namespace longhaul {
namespace {

constexpr uint32_t kStateFormat = 2;

}  // namespace

bool Round::Includes(const ContributionId& id) const {
  return closing && std::binary_search(closing->included.begin(), closing->included.end(), id);
}

bool Round::AllSlicesReady() const {
  return closing && !slices.empty() &&
         std::all_of(slices.begin(), slices.end(),
                     [&](const Slice& s) { return s.attempt == closing->attempt; });
}

uint64_t State::parameters() const {
  uint64_t n = 0;
  for (const Fragment& f : fragments) n += f.elements;
  return n;
}

uint64_t State::outer_steps() const {
  uint64_t n = 0;
  for (const Fragment& f : fragments) n += f.version.value;
  return n;
}

uint64_t State::snapshot_steps() const {
  uint64_t n = 0;
  for (const Fragment& f : fragments) n += f.snapshot.id.version.value;
  return n;
}

Version State::lowest_version() const {
  Version lowest = fragments.empty() ? Version{0} : fragments[0].version;
  for (const Fragment& f : fragments) lowest = std::min(lowest, f.version);
  return lowest;
}

std::string EncodeState(const State& state) {
  ByteWriter w;
  w.U32(kStateFormat);
  serialize::Put(w, state);
  return w.Take();
}

std::optional<State> DecodeState(ByteSpan bytes) {
  ByteReader r(bytes);
  State state;
  if (r.U32() != kStateFormat) return std::nullopt;
  serialize::Get(r, state);
  if (!r.AtEnd()) return std::nullopt;
  return state;
}

}  // namespace longhaul
