// Moves packets between the TUN devices of a lab's hosts through an emulated network, in real time,
// on a thread of its own. Measures itself: a packet that comes out later than the network says is
// counted, since an overloaded machine makes an emulated link that nobody asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "wan/emulate/lateness.h"
#include "wan/emulate/network.h"

namespace longhaul::wan {

// A run with a packet later than this is not valid.
inline constexpr Duration kWorstLateness = Milliseconds(20);

struct EmulatorReport {
  Duration worst_late{0};   // of a packet, or of one turn of the loop
  Duration median_late{0};  // of packets: the error of the emulated delay
  uint64_t deliveries = 0;
  uint64_t late_1ms = 0;            // deliveries more than a millisecond late
  uint64_t foreign = 0;             // packets to addresses outside, or not IPv4
  uint64_t write_drops = 0;         // refused by a device
  std::vector<LinkCounters> links;  // as in Network::links()
  bool valid() const { return worst_late <= kWorstLateness; }
  void Take(const Lateness& lateness) {
    worst_late = lateness.worst();
    median_late = lateness.median();
    deliveries = lateness.deliveries();
    late_1ms = lateness.late_1ms();
  }
};

class Emulator {
 public:
  // `tuns[i]` is the device of host i and must outlive the emulator.
  static absl::StatusOr<std::unique_ptr<Emulator>> Start(std::vector<int> tuns, Network network);
  virtual ~Emulator() = default;  // stops; packets under way are lost

  // Changes rates and so on, on the emulator's thread, between two packets. Any thread.
  virtual void Change(std::function<void(Network&)> change) = 0;
  virtual EmulatorReport report() const = 0;  // any thread; at most a fraction of a second old
  // Forgets lateness so far: what came before the measurement does not count.
  virtual void ResetLateness() = 0;
};

}  // namespace longhaul::wan
