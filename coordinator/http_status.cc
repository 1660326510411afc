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
              {"bytes_up", w.bytes_up},
              {"bytes_down", w.bytes_down},
              {"last_seen_seconds", SecondsOf(w.last_seen)}};
}

Json ToJsonObject(const CoverageView& c) {
  return Json{{"committed", c.committed}, {"sealed", c.sealed},
              {"leased", c.leased},       {"free", c.free},
              {"discarded", c.discarded}, {"quarantined", c.quarantined},
              {"total", c.total}};
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
                  {"workers_total", s.workers_total},
                  {"workers", std::move(workers)},
                  {"history", History(s.history)},
                  {"coverage", ToJsonObject(s.coverage)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace longhaul
