#include "coordinator/report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "coordinator/human.h"

namespace longhaul {
namespace {

using Json = nlohmann::ordered_json;

// Never throws: text from models and machines may be anything.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

double SecondsOf(Duration d) { return std::chrono::duration<double>(d).count(); }

Json OptionalNumber(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// "label   value", the value right-aligned in `width`.
std::string Field(const std::string& label, const std::string& value, size_t width) {
  const std::string fill(value.size() < width ? width - value.size() : 0, ' ');
  return (label.empty() ? "" : label + " ") + fill + value;
}

std::string Plural(uint64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

std::string Indented(const std::string& text) {
  std::string out = "  | ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "  | ";
  }
  return out + "\n";
}

std::string BytesSentence(const RunSummary& s) {
  std::string out = "each worker sent " + HumanBytes(s.bytes_up_per_worker) + " and received " +
                    HumanBytes(s.bytes_down_per_worker);
  if (s.ByteRatio() > 0) {
    out += "; plain float32 all-reduce would have moved " +
           HumanBytes(s.fp32_allreduce_bytes_per_worker) + " each way, " +
           HumanRate(s.ByteRatio()) + "x as much";
  }
  return out + "\n";
}

std::string HashSentence(const RunSummary& s) {
  if (s.hash_mismatches > 0) {
    return "WARNING: " + std::to_string(s.hash_mismatches) + " of " +
           Plural(s.hash_checks, "model hash check") + " disagreed\n";
  }
  return s.hash_checks == 0 ? ""
                            : "all workers held the same model bit for bit: " +
                                  Plural(s.hash_checks, "hash check") + ", none disagreed\n";
}

std::string FaultSentence(const RunSummary& s) {
  if (s.killed == 0 && s.rejoined == 0) return "";
  return Plural(s.killed, "worker") + " killed on the way, " + std::to_string(s.rejoined) +
         " rejoined\n";
}

}  // namespace

std::string FormatRoundHeader(const RunIntro& intro) {
  return intro.model + "  " + HumanCount(intro.parameters) + " parameters  H " +
         std::to_string(intro.inner_steps) + "  " + intro.codec + " up, " + intro.codec_down +
         " down  " + Plural(intro.rounds, "round");
}

std::string FormatRoundLine(const RoundReport& r) {
  const std::string rounds = std::to_string(r.rounds);
  std::string line = Field("round", std::to_string(r.round), rounds.size()) + "/" + rounds;
  line += "  " + Field("tokens", HumanCount(r.tokens), 5);
  line += "  " + Field("loss", HumanLoss(r.loss), 5);
  if (r.validation_loss) line += "  " + Field("val", HumanLoss(*r.validation_loss), 5);
  line += "  " + Field("tok/s", HumanRate(r.tokens_per_second), 5);
  line +=
      "  workers " + std::to_string(r.workers_included) + "/" + std::to_string(r.workers_expected);
  line += "  " + Field("up", HumanBytes(r.bytes_up_per_worker), 7);
  line += "  " + Field("down", HumanBytes(r.bytes_down_per_worker), 7);
  line += "  " + Field("sync", HumanDuration(r.sync), 5);
  line += "  " + Field("computing", HumanPercent(r.computing_percent), 4);
  if (!r.reason.empty()) line += "  (" + PrintableText(r.reason, /*one_line=*/true) + ")";
  return line;
}

std::string ToJsonLine(const RoundReport& r) {
  return Dump(Json{{"round", r.round},
                   {"rounds", r.rounds},
                   {"tokens", r.tokens},
                   {"loss", r.loss},
                   {"validation_loss", OptionalNumber(r.validation_loss)},
                   {"tokens_per_second", r.tokens_per_second},
                   {"workers_included", r.workers_included},
                   {"workers_expected", r.workers_expected},
                   {"bytes_up_per_worker", r.bytes_up_per_worker},
                   {"bytes_down_per_worker", r.bytes_down_per_worker},
                   {"sync_seconds", SecondsOf(r.sync)},
                   {"computing_percent", r.computing_percent},
                   {"reason", r.reason}});
}

uint64_t Fp32AllReduceBytesPerWorker(uint64_t steps, uint64_t parameters, uint32_t workers) {
  if (workers < 2) return 0;
  const unsigned __int128 ring =
      static_cast<unsigned __int128>(parameters) * 4 * 2 * (workers - 1) / workers;
  if (steps != 0 && ring > UINT64_MAX / steps) return UINT64_MAX;
  return static_cast<uint64_t>(ring * steps);
}

double RunSummary::ByteRatio() const {
  if (bytes_up_per_worker == 0) return 0;
  return static_cast<double>(fp32_allreduce_bytes_per_worker) /
         static_cast<double>(bytes_up_per_worker);
}

std::string ToJson(const RunSummary& s) {
  return Dump(Json{{"first_loss", s.first_loss},
                   {"final_loss", s.final_loss},
                   {"validation_loss", OptionalNumber(s.validation_loss)},
                   {"workers", s.workers},
                   {"rounds", s.rounds},
                   {"tokens", s.tokens},
                   {"bytes_up_per_worker", s.bytes_up_per_worker},
                   {"bytes_down_per_worker", s.bytes_down_per_worker},
                   {"fp32_allreduce_bytes_per_worker", s.fp32_allreduce_bytes_per_worker},
                   {"byte_ratio", s.ByteRatio()},
                   {"hash_checks", s.hash_checks},
                   {"hash_mismatches", s.hash_mismatches},
                   {"killed", s.killed},
                   {"rejoined", s.rejoined},
                   {"computing_percent", s.computing_percent},
                   {"elapsed_seconds", SecondsOf(s.elapsed)},
                   {"checkpoint", s.checkpoint},
                   {"sample_prompt", s.sample_prompt},
                   {"sample_text", s.sample_text}});
}

std::string FormatSummary(const RunSummary& s) {
  std::string out = "done in " + HumanDuration(s.elapsed) + ": " + Plural(s.rounds, "round") +
                    ", " + Plural(s.workers, "worker") + ", " + HumanCount(s.tokens) +
                    " tokens, loss " + HumanLoss(s.first_loss) + " -> " + HumanLoss(s.final_loss);
  if (s.validation_loss) out += ", validation " + HumanLoss(*s.validation_loss);
  out += "\n" + BytesSentence(s) + FaultSentence(s) + HashSentence(s);
  if (!s.sample_text.empty()) {
    out += "the model continues " + PrintableText("\"" + s.sample_prompt + "\"", true) + ":\n" +
           Indented(PrintableText(s.sample_text, /*one_line=*/false));
  }
  if (!s.checkpoint.empty()) out += "checkpoint  " + s.checkpoint + "   (Hugging Face layout)\n";
  for (size_t i = 0; i < s.next.size(); ++i) out += (i ? "      " : "next:  ") + s.next[i] + "\n";
  return out;
}

}  // namespace longhaul
