// What goes wrong in one simulation. Each seed draws its own mix: which kinds of fault happen at
// all, and how often (swarm testing: Groce et al. 2012; TigerBeetle's simulator does the same).
//
// Every kind has a sequence of draws of its own, so that switching one kind off leaves the draws of
// the others as they were: that is what makes shrinking work.
//
// One thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/time.h"

namespace longhaul::sim {

enum class FaultKind : uint8_t {
  // Links.
  kLoss,
  kDuplicate,
  kReorder,
  kCorruptChunk,
  kPartition,
  kOneWayPartition,
  kSwizzle,  // links are clogged one by one and unclogged in random order
  kSlowLink,
  // Worker processes.
  kWorkerKill,
  kWorkerPause,
  kWorkerSlow,
  kWorkerDrift,
  kWorkerLeave,
  kTwin,  // a second process with the same key
  kByzantine,
  // The coordinator's process.
  kCoordinatorKill,  // between any two effects; what was written stays
  kPowerLoss,        // the same, and what was not synced is lost, torn or reordered
  kClockBack,        // its new life counts time from less than what has passed
  kRollBack,         // the operator goes back to a checkpoint
  // Its disk.
  kStopAtDisk,  // the process ends inside a write, sync or rename
  kDiskError,   // EIO
  kDiskFull,    // ENOSPC
  kBitFlip,     // in something durable
  // Neither is a fault, but both come at the wrong moment.
  kReducerStall,  // the reducer is busy for a long time
  kReplan,        // workers get other numbers of steps
};
inline constexpr size_t kFaultKinds = static_cast<size_t>(FaultKind::kReplan) + 1;

std::string_view FaultName(FaultKind kind);
// Bit `kind` of a mask switches the kind off.
constexpr uint64_t FaultBit(FaultKind kind) { return uint64_t{1} << static_cast<unsigned>(kind); }

using FaultCounts = std::array<uint64_t, kFaultKinds>;

class Faults {
 public:
  // `off`: kinds that must not happen, whatever the seed says.
  Faults(uint64_t seed, uint64_t off);

  // Whether a fault of this kind happens here and now; counts it. Never after Stop.
  bool Happens(FaultKind kind);
  // For faults that are planned over time: a time until the next one, or a negative duration when
  // this kind does not happen in this seed.
  Duration NextAfter(FaultKind kind, Duration mean);
  // Counts one that was planned.
  void Count(FaultKind kind) { ++counts_[Index(kind)]; }
  // A number below n (n > 0) that belongs to a fault of this kind.
  uint64_t Below(FaultKind kind, uint64_t n);
  Duration Between(FaultKind kind, Duration least, Duration most);

  bool enabled(FaultKind kind) const { return running_ && rate_[Index(kind)] > 0; }
  // From now on nothing goes wrong.
  void Stop() { running_ = false; }
  bool running() const { return running_; }
  const FaultCounts& counts() const { return counts_; }
  uint64_t total() const;
  // "loss 3.1 %, worker_kill on".
  std::string Describe() const;

 private:
  static constexpr size_t Index(FaultKind kind) { return static_cast<size_t>(kind); }
  uint64_t Next(FaultKind kind);

  uint64_t seed_;
  bool running_ = true;
  std::array<uint32_t, kFaultKinds> rate_{};  // per million; 0: off
  std::array<uint64_t, kFaultKinds> draws_{};
  FaultCounts counts_{};
};

}  // namespace longhaul::sim
