#include "cli/progress.h"

#include <algorithm>

#include "cli/text_table.h"
#include "coordinator/human.h"

namespace longhaul {
namespace {

// The first `columns` code points.
std::string Cut(const std::string& text, size_t columns) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts = (text[i] & 0xC0) != 0x80;
    if (starts && seen++ == columns) return text.substr(0, i);
  }
  return text;
}

constexpr const char* kEraseLine = "\r\x1b[K";

}  // namespace

void ProgressLine::Rewrite(const std::string& line) {
  // The last column stays free: writing there may wrap.
  const size_t columns = options_.columns > 1 ? options_.columns - 1 : 1;
  sink_(kEraseLine + Cut(line, columns));
  drawn_ = true;
}

void ProgressLine::Update(Timestamp now, const std::string& line) {
  const Duration every = options_.terminal ? options_.terminal_every : options_.plain_every;
  if (shown_at_ && now - *shown_at_ < every) return;
  shown_at_ = now;
  if (options_.terminal) return Rewrite(line);
  sink_(line + "\n");
}

void ProgressLine::Finish(const std::string& line) {
  if (options_.terminal) {
    Rewrite(line);
    sink_("\n");
  } else {
    sink_(line + "\n");
  }
  drawn_ = false;
  shown_at_.reset();
}

void ProgressLine::Clear() {
  if (drawn_) sink_(kEraseLine);
  drawn_ = false;
  if (options_.terminal) shown_at_.reset();
}

std::string FormatByteProgress(const std::string& label, uint64_t done, uint64_t total,
                               Duration elapsed) {
  const double seconds = std::chrono::duration<double>(elapsed).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string out = label + "  ";
  if (total > 0) {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    out += HumanPercent(100 * share) + "  " + HumanBytes(done) + " of " + HumanBytes(total);
  } else {
    out += HumanBytes(done);
  }
  if (rate > 0) out += "  " + HumanBytes(static_cast<uint64_t>(rate)) + "/s";
  if (rate > 0 && done < total) {
    constexpr double kLongestWait = 1e8;  // seconds; three years say enough
    const double left = std::min(kLongestWait, static_cast<double>(total - done) / rate);
    out += "  " + HumanDuration(Duration(static_cast<int64_t>(left * 1e9))) + " left";
  }
  return out;
}

}  // namespace longhaul
