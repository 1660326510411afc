#include "wan/sim/trace.h"

#include <cstdio>

#include "common/hash.h"
#include "common/rng.h"

namespace longhaul::sim {

void Trace::Note(Timestamp now, std::string_view what, std::string_view bytes) {
  hash_ = Draw(hash_, {static_cast<uint64_t>(now.since_epoch.count()), Xxh3(AsBytes(what)),
                       Xxh3(AsBytes(bytes))});
  ++notes_;
}

void Trace::Note(Timestamp now, std::string_view what, std::string_view bytes,
                 const std::function<std::string()>& text) {
  Note(now, what, bytes);
  if (sink_) sink_(TimeText(now) + "  " + std::string(what) + "  " + text());
}

void Trace::Say(Timestamp now, const std::function<std::string()>& text) {
  if (sink_) sink_(TimeText(now) + "  " + text());
}

std::string TimeText(Timestamp now) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6fs", static_cast<double>(now.since_epoch.count()) * 1e-9);
  return text;
}

}  // namespace longhaul::sim
