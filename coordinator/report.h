// What people and scripts see of a run: one line per round, a summary at the end. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/time.h"

namespace longhaul {

struct RoundReport {
  uint64_t round = 0;   // committed rounds so far
  uint64_t rounds = 0;  // planned
  uint64_t tokens = 0;  // trained into the committed model so far
  double loss = 0;      // mean over this round's contributions, nats per token
  std::optional<double> validation_loss;
  double tokens_per_second = 0;  // committed tokens over the round's wall time
  uint32_t workers_included = 0;
  uint32_t workers_expected = 0;
  uint64_t bytes_up_per_worker = 0;  // this round, mean over the included, socket bytes
  uint64_t bytes_down_per_worker = 0;
  Duration sync{0};              // from the first contribution offered to the commit
  double computing_percent = 0;  // of the workers' time, inside inner steps
  std::string reason;            // why the round closed as it did; "" = nothing special
};

struct RunIntro {
  std::string model;  // "llama-1m"
  uint64_t parameters = 0;
  uint32_t inner_steps = 0;
  std::string codec;
  std::string codec_down;
  uint64_t rounds = 0;
};

// "llama-1m  1.30M parameters  H 20  int8 up, int8 down  30 rounds"
std::string FormatRoundHeader(const RunIntro& intro);
// "round  3/30  tokens  491k  loss 4.20  ...": fields keep their width from line to line.
std::string FormatRoundLine(const RoundReport& report);
// One JSON object, no line end. Keys are the struct's names, sync as sync_seconds; numbers that are
// not finite are null.
std::string ToJsonLine(const RoundReport& report);

// Bytes that one worker sends when float32 gradients are ring-all-reduced in each of `steps` steps:
// steps * 4P * 2(N-1)/N. It receives as many. Saturates.
uint64_t Fp32AllReduceBytesPerWorker(uint64_t steps, uint64_t parameters, uint32_t workers);

struct RunSummary {
  double first_loss = 0;
  double final_loss = 0;
  std::optional<double> validation_loss;
  uint32_t workers = 0;
  uint64_t rounds = 0;
  uint64_t tokens = 0;
  uint64_t bytes_up_per_worker = 0;
  uint64_t bytes_down_per_worker = 0;
  uint64_t fp32_allreduce_bytes_per_worker = 0;  // sent; see above
  uint64_t hash_checks = 0;  // state hashes of workers compared with the coordinator's
  uint64_t hash_mismatches = 0;
  uint64_t killed = 0;
  uint64_t rejoined = 0;
  double computing_percent = 0;
  Duration elapsed{0};
  std::string checkpoint;  // folder
  std::string sample_prompt;
  std::string sample_text;        // what the model wrote after the prompt; "" = no sample
  std::vector<std::string> next;  // commands that work when pasted

  // What plain all-reduce would have sent over what was sent: socket bytes up. 0 without bytes.
  double ByteRatio() const;
};

// One JSON object on one line, keys as above plus byte_ratio.
std::string ToJson(const RunSummary& summary);
// A paragraph with the sampled text and what to type next. Text from the model is made printable.
std::string FormatSummary(const RunSummary& summary);

}  // namespace longhaul
