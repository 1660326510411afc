// The history of one simulation as a running hash, and as text when somebody wants to read it. Two
// runs of one seed must end in the same hash: that is the proof that nothing outside the seed has
// an influence.
//
// One thread. Cost without text: one hash over the bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/time.h"

namespace longhaul::sim {

class Trace {
 public:
  using Sink = std::function<void(const std::string& line)>;

  // An empty sink: hash only.
  explicit Trace(Sink sink = {}) : sink_(std::move(sink)) {}

  // `what` is a constant name of the event, `bytes` all that distinguishes it.
  void Note(Timestamp now, std::string_view what, std::string_view bytes);
  // The same; `text` makes the readable line, and is called only when there is a reader.
  void Note(Timestamp now, std::string_view what, std::string_view bytes,
            const std::function<std::string()>& text);
  // For the reader only.
  void Say(Timestamp now, const std::function<std::string()>& text);

  bool readable() const { return static_cast<bool>(sink_); }
  uint64_t hash() const { return hash_; }
  uint64_t notes() const { return notes_; }

 private:
  Sink sink_;
  uint64_t hash_ = 0;
  uint64_t notes_ = 0;
};

// "12.345s".
std::string TimeText(Timestamp now);

}  // namespace longhaul::sim
