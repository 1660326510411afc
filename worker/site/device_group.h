// Sums over the ranks of one site: what joins several devices, or several processes, into one
// worker (data parallel). Two bindings: NCCL in the CUDA plug-in (plugin_group.h), and sockets of
// one machine (loopback_group.h).
//
// Thread rule: the trainer thread makes every call but Abort. All living ranks start the same sums
// in the same order. A failed sum leaves its values unspecified and every later sum failed until
// Shrink; nothing else is lost, because a site makes its optimizer step only when all sums of an
// inner step have come to an end (site_trainer.h).
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace longhaul {

class DeviceGroup {
 public:
  virtual ~DeviceGroup() = default;
  virtual uint32_t rank() const = 0;  // stays the same for the life of the process
  virtual uint32_t size() const = 0;  // ranks that take part now
  // values ← sum over the ranks, in the background; they must live until Wait. On the group's
  // device: GPU memory for NCCL, else the processor's.
  virtual void StartSum(std::span<float> values) = 0;
  // Until every started sum has come to an end. Unavailable: a rank was lost or stuck past the
  // deadline, or Abort was called.
  virtual absl::Status Wait() = 0;
  // Goes on with these ranks, ascending, this one among them. Every one of them must call it, once
  // its Wait has returned.
  virtual absl::Status Shrink(std::span<const uint32_t> living) = 0;
  // Ends what is under way, and all that comes, with an error; any thread.
  virtual void Abort() = 0;
};

}  // namespace longhaul
