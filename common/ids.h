// Strong integer types for everything that is counted or named, so that a round can never be passed
// for a version.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

namespace longhaul {

template <class Tag>
struct StrongId {
  uint64_t value = 0;
  auto operator<=>(const StrongId&) const = default;
  StrongId Next() const { return StrongId{value + 1}; }
};

using SessionId = StrongId<struct SessionTag>;    // 0 = none
using RoundId = StrongId<struct RoundTag>;        // 0 = none; never reused
using Version = StrongId<struct VersionTag>;      // of one fragment; 0 = initial parameters
using FragmentId = StrongId<struct FragmentTag>;  // 0-based
using Fence = StrongId<struct FenceTag>;          // 0 = none; grows with every grant of a lease
using RequestId = StrongId<struct RequestTag>;    // evaluation, sampling

// BLAKE2b-256.
using Digest = std::array<uint8_t, 32>;

// A worker's CURVE public key. It is the worker's identity.
struct WorkerKey {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const WorkerKey&) const = default;
};

// Random, drawn once per worker process.
struct ProcessId {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const ProcessId&) const = default;
};

// New at every roll-back or start from a checkpoint; a restart from the journal keeps it.
struct Generation {
  uint64_t counter = 0;
  uint64_t random = 0;
  auto operator<=>(const Generation&) const = default;
};

// One worker's coded pseudo-gradient of one fragment. `sequence` counts within the session.
struct ContributionId {
  SessionId session;
  uint64_t sequence = 0;
  auto operator<=>(const ContributionId&) const = default;
};

}  // namespace longhaul
