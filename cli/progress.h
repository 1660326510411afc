// Progress of long work: one line that is rewritten on a terminal, an occasional plain line in a
// file or pipe. Owned by one thread; the caller brings the clock and the output.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "common/time.h"

namespace longhaul {

class ProgressLine {
 public:
  struct Options {
    bool terminal = false;
    size_t columns = 80;                          // of the terminal; longer lines are cut
    Duration terminal_every = Milliseconds(100);  // at most one rewrite per
    Duration plain_every = Seconds(10);           // at most one plain line per
  };
  using Sink = std::function<void(const std::string& text)>;

  ProgressLine(Options options, Sink sink) : options_(options), sink_(std::move(sink)) {}

  // Shows `line`, or drops it when the last one is too recent. The first one is always shown.
  void Update(Timestamp now, const std::string& line);
  // Shows the last line whatever the time, and ends it.
  void Finish(const std::string& line);
  // Takes the line away from the terminal, so that other output can follow; the next Update draws
  // it again.
  void Clear();

 private:
  void Rewrite(const std::string& line);

  const Options options_;
  const Sink sink_;
  std::optional<Timestamp> shown_at_;
  bool drawn_ = false;
};

// "copying  45%  12.3 MB of 27.1 MB  3.20 MB/s  5s left"; without `total` (0): no share, no rest.
std::string FormatByteProgress(const std::string& label, uint64_t done, uint64_t total,
                               Duration elapsed);

}  // namespace longhaul
