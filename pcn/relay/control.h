// What the stages of a Relay run and its coordinator tell each other. A stage says where it stands
// (StageBeat), the coordinator says how things are (StageTable): both whole, again and again, so
// that a lost message changes nothing.
//
// Plain values; any thread. Bytes from outside are checked: Decode... returns none for others.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"
#include "pcn/relay/batch_ledger.h"
#include "pcn/relay/row_codec.h"

namespace longhaul::pcn {

inline constexpr uint32_t kMaxStages = 64;
inline constexpr uint32_t kMaxLayers = 1024;

// What is trained and how: the same for everybody.
struct RelayPlan {
  std::vector<uint32_t> sizes = {784, 256, 256, 256, 256, 256, 256, 256, 10};
  std::string activation = "gelu";
  double initial_scale = 1.7;  // times the layers' own deviations
  uint32_t stages = 4;
  std::vector<uint32_t> first_layers;  // of the blocks; empty: by speed and memory
  uint32_t rows = 128;                 // of a micro-batch
  uint64_t micro_batches = 2340;
  double learning_rate = 3e-4;  // before WarmCosine over micro_batches
  double weight_decay = 1e-4;
  RowCodec codec = RowCodec::kFloat32;
  bool synchronous = false;  // one micro-batch at a time
  uint64_t full_rate_gap = 18;
  uint64_t gap_limit = 8 * 18;
  uint32_t max_in_flight = 8;
  uint32_t hop_ms = 200;  // 95th percentile of one message and one stage's work
  uint32_t max_queries = 10;
  uint32_t warm_up = 10;  // micro-batches that a new holder only predicts
  uint64_t snapshot_every = 50;
  uint64_t seed = 1;
  uint32_t fold = 0;              // of the images
  uint32_t generated_images = 0;  // 0: the IDX digits that a stage has
  uint32_t work_unit_ms = 0;      // a forward pass takes at least so long, a credit three of them
  // Invitations to the ordinary runs that average the replicas of each block; none: this network
  // has no replicas. With them it trains until these runs are over, and micro_batches is the length
  // of the learning rate's schedule only.
  std::vector<std::string> block_runs;
  bool operator==(const RelayPlan&) const = default;
};
// Empty, or why the plan means nothing.
std::string PlanProblem(const RelayPlan& plan);

enum class RelayPhase : uint8_t {
  kWaiting = 1,  // for stages
  kRunning,
  kDraining,  // stage 0 has settled all; the others finish what is open
  kOver,
};

struct StageSlot {
  WorkerKey holder;  // zero: nobody
  std::string address;
  uint64_t epoch = 0;  // grows when the slot changes hands
  uint32_t first_layer = 0;
  bool operator==(const StageSlot&) const = default;
};

// Coordinator -> stage.
struct StageTable {
  RelayPhase phase = RelayPhase::kWaiting;
  RelayPlan plan;
  uint64_t resume_at = 0;        // stage 0: below this all is settled
  std::vector<StageSlot> slots;  // in the order of the network
  std::string problem;           // why the run cannot go on
  bool operator==(const StageTable&) const = default;
};

// Stage -> coordinator.
struct StageBeat {
  std::string address;  // where the stage below connects
  double speed = 1;     // see StageMachine
  uint64_t memory_bytes = 0;
  Digest data{};       // of the images here; zero: not read yet
  uint64_t epoch = 0;  // of the slot it holds; 0: none
  uint32_t stage = 0;
  bool finished = false;  // stage 0: all settled; others: nothing open
  bool averaged = false;  // the run that averages its block is over
  bool leaving = false;
  uint64_t version = 0;
  uint64_t settled_below = 0;  // stage 0
  uint64_t accepted = 0, trained = 0, open = 0;
  std::array<uint64_t, kDiscards> discarded{};
  uint64_t gap_median = 0, gap_p95 = 0;
  uint64_t fenced = 0, resends = 0;
  uint64_t bytes_up = 0, bytes_down = 0;  // STATE_UP and CREDIT_DOWN that it sent, with headers
  uint64_t busy_ns = 0, span_ns = 0;      // of its work, since its first update; and that time
  double loss = 0;                        // the top's, of the latest micro-batch
  Digest parameters{};                    // of its block, when finished
  bool operator==(const StageBeat&) const = default;
};

std::string EncodeBeat(const StageBeat& beat);
std::optional<StageBeat> DecodeBeat(ByteSpan bytes);
std::string EncodeTable(const StageTable& table);
std::optional<StageTable> DecodeTable(ByteSpan bytes);

}  // namespace longhaul::pcn
