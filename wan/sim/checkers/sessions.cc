#include "wan/sim/checkers/sessions.h"

#include <algorithm>

namespace longhaul::sim {
namespace {

constexpr int kSilentAfterBeats = 10;  // of one second each, times patience
constexpr uint64_t kMany = 3;          // and more than a third

}  // namespace

Sessions::Sessions(const RunConfig& config)
    : limit_(Seconds(kSilentAfterBeats) * static_cast<int64_t>(config.run.patience * 1000) / 1000) {
}

void Sessions::CheckSilent(SessionId session, Timestamp now) {
  const auto heard = heard_.find(session);
  const Timestamp since =
      heard == heard_.end() ? life_began_ : std::max(heard->second, life_began_);
  if (now - since < limit_)
    Complain("session " + std::to_string(session.value) + " was heard of when it was expelled");
  if (batch_at_ != now || batch_ == 0) {
    batch_at_ = now;
    batch_of_ = live_.size();
    batch_ = 0;
  }
  ++batch_;
  if (batch_ >= kMany && batch_ * 3 > batch_of_ && thawed_ != now)
    Complain("many were expelled at once, without a freeze");
}

void Sessions::Ended(const SessionEnded& r, Timestamp now) {
  if (r.reason == EndReason::kSilent) CheckSilent(r.session, now);
  const Live& live = live_[r.session];
  if (r.reason == EndReason::kSuperseded) superseded_.emplace(live.key, live.process);
  live_.erase(r.session);
}

void Sessions::OnRecord(const Record& record, const State&) {
  if (const auto* r = std::get_if<SessionOpened>(&record.body)) {
    live_[r->session] = {r->key, r->process};
    if (superseded_.contains({r->key, r->process}))
      Complain("a superseded process was let in again");
  } else if (const auto* r = std::get_if<SessionEnded>(&record.body)) {
    Ended(*r, record.now);
  } else if (std::holds_alternative<GenerationStarted>(record.body)) {
    live_.clear();
  } else if (std::holds_alternative<ExpiryThawed>(record.body)) {
    thawed_ = record.now;
  } else if (std::holds_alternative<Restarted>(record.body)) {
    life_began_ = record.now;
    heard_.clear();
  }
}

}  // namespace longhaul::sim
