#include "coordinator/http_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace longhaul {
namespace {

using Json = nlohmann::ordered_json;

double SecondsOf(Duration d) { return std::chrono::duration<double>(d).count(); }

Json ToJsonObject(const WorkerRow& w) {
  return Json{{"name", w.name},
              {"state", w.state},
              {"steps", w.steps},
              {"loss", w.loss},
              {"tokens_per_second", w.tokens_per_second},
              {"computing_percent", w.computing_percent},
              {"planned_steps", w.planned_steps},
              {"step_seconds", w.step_seconds},
              {"bytes_up", w.bytes_up},
              {"bytes_down", w.bytes_down},
              {"last_seen_seconds", SecondsOf(w.last_seen)}};
}

Json ToJsonObject(const CoverageView& c) {
  Json fragments = Json::array();
  for (const FragmentCoverage& f : c.fragments) {
    fragments.push_back(Json{{"committed", f.committed},
                             {"sealed", f.sealed},
                             {"leased", f.leased},
                             {"free", f.free},
                             {"discarded",
                              {{"other_fragment_committed", f.other_fragment_committed},
                               {"carried_too_often", f.carried_too_often}}},
                             {"quarantined", f.quarantined},
                             {"total", f.total}});
  }
  Json ranges = Json::array();
  for (const QuarantinedRange& r : c.quarantined)
    ranges.push_back(Json{{"from", r.from}, {"to", r.to}, {"workers", r.workers}});
  Json domains = Json::array();
  for (const DomainCoverage& d : c.domains) {
    domains.push_back(Json{{"name", d.name},
                           {"samples", d.samples},
                           {"committed", d.committed},
                           {"in_hand", d.in_hand},
                           {"lost", d.lost}});
  }
  return Json{{"fragments", std::move(fragments)},
              {"quarantined_ranges", c.quarantined_ranges},
              {"quarantined", std::move(ranges)},
              {"domains", std::move(domains)}};
}

Json ToJsonObject(const PlanView& p) {
  return Json{{"predicted_seconds", p.predicted_s},
              {"last_predicted_seconds", p.last_predicted_s},
              {"last_measured_seconds", p.last_measured_s},
              {"compared_rounds", p.compared_rounds},
              {"mean_error", p.mean_error},
              {"p95_error", p.p95_error},
              {"deadline_seconds", p.deadline_s},
              {"tokens_per_second", p.tokens_per_s},
              {"bound_tokens_per_second", p.bound_tokens_per_s},
              {"ratio", p.ratio()},
              {"solver_seconds", p.solver_s},
              {"advised_quorum", p.advised_quorum},
              {"advised_grace", p.advised_grace},
              {"quorum_ratio", p.quorum_ratio}};
}

// Evenly spaced, first and last included.
Json History(const std::vector<LossPoint>& points) {
  Json out = Json::array();
  const size_t shown = std::min(points.size(), kMaxStatusPoints);
  for (size_t i = 0; i < shown; ++i) {
    const LossPoint& p = points[shown == 1 ? 0 : i * (points.size() - 1) / (shown - 1)];
    out.push_back(Json{p.round, p.loss, p.validation_loss ? Json(*p.validation_loss) : Json()});
  }
  return out;
}

}  // namespace

std::string ToJson(const RunStatus& s) {
  Json workers = Json::array();
  for (size_t i = 0; i < std::min(s.workers.size(), kMaxStatusWorkers); ++i) {
    workers.push_back(ToJsonObject(s.workers[i]));
  }
  const Json json{{"run", s.run},
                  {"phase", s.phase},
                  {"reason", s.reason},
                  {"reduced_by", s.reduced_by},
                  {"elapsed_seconds", SecondsOf(s.elapsed)},
                  {"rounds", s.rounds},
                  {"last_round", s.last_round ? Json::parse(ToJsonLine(*s.last_round)) : Json()},
                  {"bytes_in", s.bytes_in},
                  {"bytes_out", s.bytes_out},
                  {"data_bytes_out", s.data_bytes_out},
                  {"workers_total", s.workers_total},
                  {"workers", std::move(workers)},
                  {"history", History(s.history)},
                  {"coverage", ToJsonObject(s.coverage)},
                  {"plan", ToJsonObject(s.plan)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<CoverageView> CoverageFromJson(const std::string& status) try {
  const Json json = Json::parse(status).at("coverage");
  CoverageView view{.quarantined_ranges = json.at("quarantined_ranges")};
  for (const Json& f : json.at("fragments")) {
    const Json& discarded = f.at("discarded");
    view.fragments.push_back({.committed = f.at("committed"),
                              .sealed = f.at("sealed"),
                              .leased = f.at("leased"),
                              .free = f.at("free"),
                              .other_fragment_committed = discarded.at("other_fragment_committed"),
                              .carried_too_often = discarded.at("carried_too_often"),
                              .quarantined = f.at("quarantined"),
                              .total = f.at("total")});
  }
  for (const Json& r : json.at("quarantined"))
    view.quarantined.push_back({r.at("from"), r.at("to"), r.at("workers")});
  for (const Json& d : json.at("domains")) {
    view.domains.push_back(
        {d.at("name"), d.at("samples"), d.at("committed"), d.at("in_hand"), d.at("lost")});
  }
  return view;
} catch (const Json::exception&) {
  return std::nullopt;
}

}  // namespace longhaul
