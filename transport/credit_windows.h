// How many bytes of one transfer may be under way to this receiver: `least_bytes` at rest, and more
// only while the measured rate and round trip of the way from that sender ask for it. Pure: the
// caller brings the clock. Owned by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "common/ids.h"
#include "common/time.h"
#include "transport/link_estimate.h"
#include "transport/link_table.h"

namespace longhaul {

class CreditWindows {
 public:
  // Estimates that are kept; above it the one unused for longest goes and starts anew.
  static constexpr size_t kMaxSenders = 4096;

  explicit CreditWindows(uint64_t least_bytes) : least_bytes_(least_bytes) {}

  // Payload of transfers that came from there.
  void OnConsumed(const WorkerKey& sender, Timestamp now, uint64_t bytes);
  // What the kernel says of the connections to it; without a round trip it is ignored.
  void OnLink(const WorkerKey& sender, Timestamp now, const LinkRow& link);

  // For one of `transfers` that come from there now. `taken_bytes` is what all transfers of this
  // receiver have beyond their least now, of `shared_bytes` for all of them: nobody gets more than
  // what is left, so one transfer that wants it all gets half, and n get shared / (n + 1) each
  // (the dynamic threshold of Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998).
  uint64_t Window(const WorkerKey& sender, size_t transfers, uint64_t taken_bytes,
                  uint64_t shared_bytes) const;

 private:
  struct Sender {
    LinkEstimate estimate;
    Timestamp last_use;
  };
  Sender& Of(const WorkerKey& sender, Timestamp now);

  uint64_t least_bytes_;
  std::map<WorkerKey, Sender> senders_;
};

}  // namespace longhaul
