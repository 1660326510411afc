#include "coordinator/http_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <sstream>

namespace longhaul {

std::string RefusalName(RefusalCode code) {
  switch (code) {
    case RefusalCode::kVersionMismatch:
      return "version mismatch";
    case RefusalCode::kInvitationUnknown:
      return "invitation unknown";
    case RefusalCode::kInvitationExpired:
      return "invitation expired";
    case RefusalCode::kInvitationUsedUp:
      return "invitation used up";
    case RefusalCode::kInvitationRevoked:
      return "invitation revoked";
    case RefusalCode::kBadSignature:
      return "bad signature";
    case RefusalCode::kNotEnrolled:
      return "not enrolled";
    case RefusalCode::kSuperseded:
      return "superseded";
    case RefusalCode::kFenced:
      return "fenced";
    case RefusalCode::kWrongData:
      return "wrong data";
    case RefusalCode::kRunOver:
      return "run over";
    case RefusalCode::kFull:
      return "full";
    case RefusalCode::kWrongGeneration:
      return "wrong generation";
  }
  return "other";
}

struct Metrics::Impl {
  prometheus::Gauge& Gauge(const std::string& name, const std::string& help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  prometheus::Family<prometheus::Counter>& Counters(const std::string& name,
                                                    const std::string& help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }

  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& rounds =
      Counters("longhaul_rounds_total", "Rounds by outcome");
  prometheus::Counter& committed = rounds.Add({{"outcome", "committed"}});
  prometheus::Counter& aborted = rounds.Add({{"outcome", "aborted"}});
  prometheus::Counter& ignored =
      Counters("longhaul_messages_ignored_total",
               "Messages of live sessions that did not fit the state and changed nothing")
          .Add({});
  prometheus::Family<prometheus::Counter>& bytes =
      Counters("longhaul_bytes_total", "Socket bytes exchanged with workers");
  prometheus::Counter& in = bytes.Add({{"direction", "in"}});
  prometheus::Counter& out = bytes.Add({{"direction", "out"}});
  prometheus::Family<prometheus::Counter>& refusals =
      Counters("longhaul_refusals_total", "Refused messages by reason");
  prometheus::Gauge& workers = Gauge("longhaul_workers_live", "Workers with a live session");
  prometheus::Gauge& tokens = Gauge("longhaul_tokens", "Tokens trained into the committed model");
  prometheus::Gauge& loss = Gauge("longhaul_loss", "Training loss of the last committed round");
  prometheus::Gauge& round = Gauge("longhaul_round", "Committed rounds so far");
  prometheus::Gauge& sync =
      Gauge("longhaul_sync_seconds", "Seconds from the first contribution to the commit");
  prometheus::Gauge& computing =
      Gauge("longhaul_computing_percent", "Share of the workers' time inside training steps");
  prometheus::Gauge& predicted = Gauge("longhaul_round_predicted_seconds",
                                       "What the last committed round was predicted to take");
  prometheus::Gauge& measured = Gauge("longhaul_round_measured_seconds", "What that round took");
  prometheus::Gauge& plan_error =
      Gauge("longhaul_plan_error_ratio", "Mean of |predicted - measured| / measured of rounds");
  prometheus::Gauge& plan_ratio =
      Gauge("longhaul_plan_bound_ratio", "Tokens per second of the plan over its upper bound");
  prometheus::Gauge& plan_seconds =
      Gauge("longhaul_plan_solver_seconds", "Time that the last plan took");
  prometheus::Gauge& data_bytes =
      Gauge("longhaul_data_bytes_sent", "Training data sent to workers");
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::RoundCommitted() { impl_->committed.Increment(); }
void Metrics::RoundAborted() { impl_->aborted.Increment(); }
void Metrics::Ignored() { impl_->ignored.Increment(); }
// Add returns the existing counter for labels it knows; the labels come from an enum, so they stay
// few.
void Metrics::Refused(RefusalCode code) {
  impl_->refusals.Add({{"reason", RefusalName(code)}}).Increment();
}
void Metrics::AddBytesIn(uint64_t bytes) { impl_->in.Increment(static_cast<double>(bytes)); }
void Metrics::AddBytesOut(uint64_t bytes) { impl_->out.Increment(static_cast<double>(bytes)); }
void Metrics::SetWorkersLive(uint64_t workers) { impl_->workers.Set(static_cast<double>(workers)); }
void Metrics::SetTokens(uint64_t tokens) { impl_->tokens.Set(static_cast<double>(tokens)); }
void Metrics::SetLoss(double loss) { impl_->loss.Set(loss); }
void Metrics::SetRound(uint64_t round) { impl_->round.Set(static_cast<double>(round)); }
void Metrics::SetSyncSeconds(double seconds) { impl_->sync.Set(seconds); }
void Metrics::SetComputingPercent(double percent) { impl_->computing.Set(percent); }
void Metrics::SetPlan(const PlanView& plan) {
  impl_->predicted.Set(plan.last_predicted_s);
  impl_->measured.Set(plan.last_measured_s);
  impl_->plan_error.Set(plan.mean_error);
  impl_->plan_ratio.Set(plan.ratio());
  impl_->plan_seconds.Set(plan.solver_s);
}
void Metrics::SetDataBytesOut(uint64_t bytes) { impl_->data_bytes.Set(static_cast<double>(bytes)); }

std::string Metrics::Text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->registry.Collect());
  return out.str();
}

}  // namespace longhaul
