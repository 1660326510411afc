#include "pcn/relay/control.h"

#include <cmath>

namespace longhaul::pcn {
namespace {

constexpr uint32_t kBeatFormat = 0x31425350, kTableFormat = 0x31545350;
constexpr size_t kMaxTextBytes = 512;
constexpr uint32_t kMaxWidth = 65536, kMaxRows = 65536, kMaxMs = 600'000;

// One list of fields serves both directions.
class Writer {
 public:
  void operator()(const std::string& v) { out.String(v); }
  void operator()(bool v) { out.Bool(v); }
  void operator()(uint32_t v) { out.U32(v); }
  void operator()(uint64_t v) { out.U64(v); }
  void operator()(double v) { out.F64(v); }
  void operator()(const Digest& v) { out.Write(v); }
  void operator()(const WorkerKey& v) { out.Write(v); }
  void operator()(RowCodec v) { out.U8(static_cast<uint8_t>(v)); }
  void operator()(RelayPhase v) { out.U8(static_cast<uint8_t>(v)); }
  ByteWriter out;
};

class Reader {
 public:
  explicit Reader(ByteSpan bytes) : in(bytes) {}
  void operator()(std::string& v) { v = in.String(kMaxTextBytes); }
  void operator()(bool& v) { v = in.Bool(); }
  void operator()(uint32_t& v) { v = in.U32(); }
  void operator()(uint64_t& v) { v = in.U64(); }
  void operator()(double& v) {
    v = in.F64();
    if (!std::isfinite(v)) in.Fail();
  }
  void operator()(Digest& v) { in.Read(v); }
  void operator()(WorkerKey& v) { in.Read(v); }
  void operator()(RowCodec& v) { v = Enum<RowCodec>(3); }
  void operator()(RelayPhase& v) { v = Enum<RelayPhase>(4); }
  ByteReader in;

 private:
  template <class E>
  E Enum(uint8_t largest) {
    const uint8_t v = in.U8();
    if (v < 1 || v > largest) in.Fail();
    return static_cast<E>(v);
  }
};

void Each(Writer& f, const std::vector<uint32_t>& list) {
  f(static_cast<uint64_t>(list.size()));
  for (uint32_t v : list) f(v);
}
void Each(Reader& f, std::vector<uint32_t>& list) {
  list.resize(f.in.Count(sizeof(uint32_t)));
  for (uint32_t& v : list) f(v);
}

void Each(Writer& f, const std::vector<std::string>& list) {
  f(static_cast<uint64_t>(list.size()));
  for (const std::string& v : list) f(v);
}
void Each(Reader& f, std::vector<std::string>& list) {
  list.resize(f.in.Count(sizeof(uint32_t)));
  for (std::string& v : list) f(v);
}

template <class F, class Plan>
void VisitPlan(F& f, Plan& p) {
  Each(f, p.sizes);
  Each(f, p.first_layers);
  Each(f, p.block_runs);
  f(p.activation), f(p.initial_scale), f(p.stages), f(p.rows), f(p.micro_batches);
  f(p.learning_rate), f(p.weight_decay), f(p.codec), f(p.synchronous), f(p.full_rate_gap);
  f(p.gap_limit), f(p.max_in_flight), f(p.hop_ms), f(p.max_queries), f(p.warm_up);
  f(p.snapshot_every), f(p.seed), f(p.fold), f(p.generated_images), f(p.work_unit_ms);
}

template <class F, class Slot>
void VisitSlot(F& f, Slot& s) {
  f(s.holder), f(s.address), f(s.epoch), f(s.first_layer);
}

template <class F, class Beat>
void VisitBeat(F& f, Beat& b) {
  f(b.address), f(b.speed), f(b.memory_bytes), f(b.data), f(b.epoch), f(b.stage), f(b.finished);
  f(b.averaged);
  f(b.leaving), f(b.version), f(b.settled_below), f(b.accepted), f(b.trained), f(b.open);
  for (auto& count : b.discarded) f(count);
  f(b.gap_median), f(b.gap_p95), f(b.fenced), f(b.resends), f(b.bytes_up);
  f(b.bytes_down), f(b.busy_ns), f(b.span_ns), f(b.loss), f(b.parameters);
}

}  // namespace

std::string PlanProblem(const RelayPlan& p) {
  if (p.sizes.size() < 2 || p.sizes.size() > kMaxLayers) {
    return "sizes: those of input, hidden layers and output are needed";
  }
  for (uint32_t n : p.sizes) {
    if (n == 0 || n > kMaxWidth) return "sizes: a layer has 1 to 65536 features";
  }
  const size_t layers = p.sizes.size() - 1;
  if (p.stages == 0 || p.stages > kMaxStages) return "stages: 1 to 64";
  if (p.stages > layers) {
    return "stages: " + std::to_string(p.stages) + " blocks do not match a network of " +
           std::to_string(layers) + " layers";
  }
  if (!p.first_layers.empty()) {
    bool ok = p.first_layers.size() == p.stages && p.first_layers[0] == 0;
    for (size_t i = 1; ok && i < p.first_layers.size(); ++i) {
      ok = p.first_layers[i] > p.first_layers[i - 1] && p.first_layers[i] < layers;
    }
    if (!ok) return "first_layers: one per stage, ascending, beginning with 0, below the top";
  }
  if (p.rows == 0 || p.rows > kMaxRows) return "rows: 1 to 65536";
  if (p.micro_batches == 0) return "micro_batches: at least 1";
  if (!(p.learning_rate > 0) || !(p.weight_decay >= 0) || !(p.initial_scale > 0)) {
    return "learning_rate and initial_scale must be above 0, weight_decay not below";
  }
  if (p.max_in_flight == 0 || p.max_in_flight > 4096) return "max_in_flight: 1 to 4096";
  if (p.hop_ms == 0 || p.hop_ms > kMaxMs || p.work_unit_ms > kMaxMs) {
    return "hop_ms and work_unit_ms: at most ten minutes, hop_ms at least 1";
  }
  if (!p.block_runs.empty()) {
    if (p.block_runs.size() != p.stages) return "block_runs: one for each stage";
    if (p.first_layers.empty()) {
      return "block_runs: replicas must be cut alike, so first_layers are needed";
    }
    for (const std::string& invitation : p.block_runs) {
      if (invitation.size() > kMaxTextBytes) return "block_runs: no invitation is so long";
    }
  }
  if (p.full_rate_gap == 0 || p.gap_limit > 1'000'000) return "full_rate_gap: at least 1";
  return "";
}

std::string EncodeBeat(const StageBeat& beat) {
  Writer f;
  f(kBeatFormat);
  VisitBeat(f, beat);
  return f.out.Take();
}

std::optional<StageBeat> DecodeBeat(ByteSpan bytes) {
  Reader f(bytes);
  uint32_t format = 0;
  f(format);
  StageBeat beat;
  VisitBeat(f, beat);
  if (format != kBeatFormat || !f.in.AtEnd()) return std::nullopt;
  return beat;
}

std::string EncodeTable(const StageTable& table) {
  Writer f;
  f(kTableFormat);
  f(table.phase);
  VisitPlan(f, table.plan);
  f(table.resume_at);
  f(static_cast<uint64_t>(table.slots.size()));
  for (const StageSlot& slot : table.slots) VisitSlot(f, slot);
  f(table.problem.substr(0, kMaxTextBytes));
  return f.out.Take();
}

std::optional<StageTable> DecodeTable(ByteSpan bytes) {
  Reader f(bytes);
  uint32_t format = 0;
  f(format);
  StageTable table;
  f(table.phase);
  VisitPlan(f, table.plan);
  f(table.resume_at);
  table.slots.resize(f.in.Count(sizeof(WorkerKey)));
  for (StageSlot& slot : table.slots) VisitSlot(f, slot);
  f(table.problem);
  if (format != kTableFormat || !f.in.AtEnd() || !PlanProblem(table.plan).empty() ||
      table.slots.size() != table.plan.stages) {
    return std::nullopt;
  }
  return table;
}

}  // namespace longhaul::pcn
