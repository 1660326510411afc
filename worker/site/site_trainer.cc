#include "worker/site/site_trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr Duration kForever = Seconds(1'000'000);  // a follower waits for the next command
constexpr Duration kSendTimeout = Seconds(60);
constexpr size_t kMaxReasonBytes = 1000;
constexpr size_t kPartBytes = size_t{64} << 20;  // of parameters or inner state in one command

// kPart: bytes that kLoad will need.
enum class Command : uint8_t { kSet, kReset, kPart, kLoad, kBackward, kUpdate, kShrink, kStop };

// What one rank says after Backward.
struct Answer {
  bool summed = false;  // false: another rank was lost
  bool failed = false;  // this rank cannot compute the step
  std::string reason;
  double loss = 0;
};

std::string Encode(const Answer& a) {
  ByteWriter out;
  out.Bool(a.summed);
  out.Bool(a.failed);
  out.F64(a.loss);
  out.String(std::string_view(a.reason).substr(0, kMaxReasonBytes));
  return out.Take();
}

absl::StatusOr<Answer> DecodeAnswer(std::string_view bytes) {
  ByteReader in(bytes);
  Answer a;
  a.summed = in.Bool();
  a.failed = in.Bool();
  a.loss = in.F64();
  a.reason = in.String(kMaxReasonBytes);
  if (!in.ok() || !in.AtEnd()) return absl::UnavailableError("an answer that is none");
  return a;
}

// One rank's part of a step.
std::string BackwardFrame(const StepInput& part, uint64_t all_targets) {
  ByteWriter out;
  out.U8(static_cast<uint8_t>(Command::kBackward));
  out.U64(part.step);
  out.U64(all_targets);
  out.U64(part.positions.size());
  out.U64(part.tokens.size());
  out.Raw(part.positions.data(), part.positions.size_bytes());
  out.Raw(part.tokens.data(), part.tokens.size_bytes());
  return out.Take();
}

// Backward and the wait for its sums.
Answer ComputeGradient(GradientTrainer& trainer, DeviceGroup& group, const StepInput& part,
                       uint64_t all_targets) {
  Answer answer;
  const absl::StatusOr<double> loss = trainer.Backward(part, all_targets, group);
  if (!loss.ok()) {
    answer.failed = true;
    answer.reason = std::string(loss.status().message());
    group.Abort();  // the others must not wait for sums that never start
    return answer;
  }
  const absl::Status summed = group.Wait();
  answer.summed = summed.ok();
  answer.reason = std::string(summed.message());
  answer.loss = *loss;
  return answer;
}

class SiteTrainer final : public Trainer {
 public:
  SiteTrainer(std::unique_ptr<GradientTrainer> own, std::unique_ptr<DeviceGroup> group,
              std::unique_ptr<SiteLink> commands, SiteOptions options)
      : own_(std::move(own)),
        group_(std::move(group)),
        commands_(std::move(commands)),
        options_(std::move(options)) {}
  ~SiteTrainer() override { TellAll(std::string(1, static_cast<char>(Command::kStop))); }

  uint64_t parameters() const override { return own_->parameters(); }

  void SetParameters(uint64_t offset, std::span<const float> values) override {
    constexpr size_t kPart = kPartBytes / sizeof(float);
    for (size_t at = 0; at < values.size(); at += kPart) {
      const std::span<const float> part = values.subspan(at, std::min(kPart, values.size() - at));
      ByteWriter out;
      out.U8(static_cast<uint8_t>(Command::kSet));
      out.U64(offset + at);
      out.Raw(part.data(), part.size_bytes());
      TellAll(out.str());
    }
    own_->SetParameters(offset, values);
  }
  void GetParameters(uint64_t offset, std::span<float> out) const override {
    own_->GetParameters(offset, out);
  }
  void ResetInnerState() override {
    TellAll(std::string(1, static_cast<char>(Command::kReset)));
    own_->ResetInnerState();
  }
  std::string SaveInnerState() const override { return own_->SaveInnerState(); }
  absl::Status LoadInnerState(std::string_view bytes) override {
    RETURN_IF_ERROR(own_->LoadInnerState(bytes));
    for (size_t at = 0; at < bytes.size(); at += kPartBytes) {
      const bool last = bytes.size() - at <= kPartBytes;
      TellAll(static_cast<char>(last ? Command::kLoad : Command::kPart) +
              std::string(bytes.substr(at, kPartBytes)));
    }
    return absl::OkStatus();
  }
  absl::StatusOr<StepOutput> Evaluate(std::span<const float> values,
                                      std::span<const uint16_t> tokens) override {
    return own_->Evaluate(values, tokens);
  }
  absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float> values,
                                               std::span<const uint16_t> prompt, uint32_t count,
                                               uint64_t seed) override {
    return own_->Sample(values, prompt, count, seed);
  }

  absl::StatusOr<StepOutput> Step(const StepInput& input) override {
    // Each attempt but the last loses a rank.
    for (uint32_t attempt = 0; attempt <= commands_->size(); ++attempt) {
      absl::StatusOr<std::optional<double>> loss = Attempt(input);
      if (!loss.ok()) return loss.status();
      if (!loss->has_value()) continue;
      if (std::isfinite(**loss)) {
        std::string update(1, static_cast<char>(Command::kUpdate));
        update.append(reinterpret_cast<const char*>(&input.step), sizeof input.step);
        TellAll(update);
        RETURN_IF_ERROR(own_->Update(input.step));
      }
      return StepOutput{**loss, own_->Targets(input)};
    }
    return absl::UnavailableError("the site's ranks cannot finish a step together");
  }

 private:
  // The mean loss; nothing when ranks were lost and the group has shrunk.
  absl::StatusOr<std::optional<double>> Attempt(const StepInput& input) {
    const uint64_t all_targets = own_->Targets(input);
    const std::vector<uint32_t> ranks = Living();
    for (size_t i = 1; i < ranks.size(); ++i) {
      Tell(ranks[i], BackwardFrame(PartOf(input, i, ranks.size()), all_targets));
    }
    const Answer own = ComputeGradient(*own_, *group_, PartOf(input, 0, ranks.size()), all_targets);
    if (own.failed) return absl::InternalError(own.reason);
    double loss = own.loss;
    bool summed = own.summed;
    for (size_t i = 1; i < ranks.size(); ++i) {
      const Answer answer = AnswerOf(ranks[i]);
      if (answer.failed) Lose(ranks[i], answer.reason);
      if (answer.summed && !std::isfinite(answer.loss)) {
        Say(absl::StrCat("the loss of rank ", ranks[i], " is not finite"));
      }
      summed = summed && answer.summed;
      loss += answer.loss;
    }
    if (summed && Living().size() == ranks.size()) return loss;
    RETURN_IF_ERROR(ShrinkAll());
    return std::nullopt;
  }

  // Consecutive positions and their tokens, as even as can be.
  static StepInput PartOf(const StepInput& input, size_t i, size_t parts) {
    const size_t n = input.positions.size();
    const size_t from = n * i / parts, to = n * (i + 1) / parts;
    const size_t tokens = n == 0 ? 0 : input.tokens.size() / n;
    return {input.step, input.positions.subspan(from, to - from),
            input.tokens.subspan(from * tokens, (to - from) * tokens)};
  }

  Answer AnswerOf(uint32_t rank) {
    absl::StatusOr<std::string> frame = commands_->Receive(rank, options_.deadline);
    absl::StatusOr<Answer> answer =
        frame.ok() ? DecodeAnswer(*frame) : absl::StatusOr<Answer>(frame.status());
    if (answer.ok()) return *answer;
    Lose(rank, std::string(answer.status().message()));
    return Answer();
  }
  void Lose(uint32_t rank, const std::string& reason) {
    Say(absl::StrCat("rank ", rank, " is lost (", reason, "); the site goes on with the others"));
    commands_->Drop(rank);
  }

  absl::Status ShrinkAll() {
    std::vector<uint32_t> living = Living();
    ByteWriter out;
    out.U8(static_cast<uint8_t>(Command::kShrink));
    for (uint32_t rank : living) out.U32(rank);
    const std::string frame = out.Take();
    for (size_t i = 1; i < living.size(); ++i) Tell(living[i], frame);
    return group_->Shrink(living);
  }

  std::vector<uint32_t> Living() const {
    std::vector<uint32_t> ranks = commands_->peers();
    ranks.insert(ranks.begin(), 0);
    return ranks;
  }
  // A rank that cannot be told is dropped, which the next step sees.
  void Tell(uint32_t rank, const std::string& frame) {
    commands_->Send(rank, frame, kSendTimeout).IgnoreError();
  }
  void TellAll(const std::string& frame) {
    for (uint32_t rank : commands_->peers()) Tell(rank, frame);
  }
  void Say(const std::string& text) const {
    if (options_.say) options_.say(text);
  }

  const std::unique_ptr<GradientTrainer> own_;
  const std::unique_ptr<DeviceGroup> group_;
  const std::unique_ptr<SiteLink> commands_;
  const SiteOptions options_;
};

// ---- the other ranks ----

absl::Status Set(std::string_view body, GradientTrainer& own) {
  uint64_t offset = 0;
  if (body.size() < sizeof offset) return absl::UnavailableError("a damaged command");
  std::memcpy(&offset, body.data(), sizeof offset);
  body.remove_prefix(sizeof offset);
  std::vector<float> values(body.size() / sizeof(float));
  if (offset > own.parameters() || values.size() > own.parameters() - offset) {
    return absl::UnavailableError("rank 0 has another model");
  }
  std::memcpy(values.data(), body.data(), values.size() * sizeof(float));
  own.SetParameters(offset, values);
  return absl::OkStatus();
}

absl::Status Backward(std::string_view body, GradientTrainer& own, DeviceGroup& group,
                      SiteLink& commands) {
  ByteReader in(body);
  StepInput part{.step = in.U64()};
  const uint64_t all_targets = in.U64(), positions = in.U64(), tokens = in.U64();
  const uint64_t most = body.size();
  if (!in.ok() || positions > most || tokens > most) {
    return absl::UnavailableError("a damaged command");
  }
  std::vector<uint64_t> own_positions(positions);
  std::vector<uint16_t> own_tokens(tokens);
  in.Raw(own_positions.data(), positions * sizeof(uint64_t));
  in.Raw(own_tokens.data(), tokens * sizeof(uint16_t));
  if (!in.ok() || !in.AtEnd()) return absl::UnavailableError("a damaged command");
  part.positions = own_positions;
  part.tokens = own_tokens;
  const Answer answer = ComputeGradient(own, group, part, all_targets);
  return commands.Send(0, Encode(answer), kSendTimeout);
}

absl::Status Shrink(std::string_view body, DeviceGroup& group) {
  std::vector<uint32_t> living(body.size() / sizeof(uint32_t));
  std::memcpy(living.data(), body.data(), living.size() * sizeof(uint32_t));
  return group.Shrink(living);
}

absl::Status Update(std::string_view body, GradientTrainer& own) {
  uint64_t step = 0;
  if (body.size() != sizeof step) return absl::UnavailableError("a damaged command");
  std::memcpy(&step, body.data(), sizeof step);
  return own.Update(step);
}

absl::Status Obey(std::string_view frame, GradientTrainer& own, DeviceGroup& group,
                  SiteLink& commands, std::string& parts) {
  if (frame.empty()) return absl::UnavailableError("an empty command");
  const std::string_view body = frame.substr(1);
  switch (static_cast<Command>(frame.front())) {
    case Command::kSet:
      return Set(body, own);
    case Command::kReset:
      own.ResetInnerState();
      return absl::OkStatus();
    case Command::kPart:
      parts.append(body);
      return absl::OkStatus();
    case Command::kLoad:
      parts.append(body);
      return own.LoadInnerState(std::exchange(parts, std::string()));
    case Command::kBackward:
      return Backward(body, own, group, commands);
    case Command::kUpdate:
      return Update(body, own);
    case Command::kShrink:
      return Shrink(body, group);
    default:
      return absl::UnavailableError("an unknown command");
  }
}

}  // namespace

std::unique_ptr<Trainer> MakeSiteTrainer(std::unique_ptr<GradientTrainer> own,
                                         std::unique_ptr<DeviceGroup> group,
                                         std::unique_ptr<SiteLink> commands, SiteOptions options) {
  return std::make_unique<SiteTrainer>(std::move(own), std::move(group), std::move(commands),
                                       std::move(options));
}

absl::Status RunSiteRank(GradientTrainer& own, DeviceGroup& group, SiteLink& commands) {
  std::string parts;
  const std::string stop(1, static_cast<char>(Command::kStop));
  for (;;) {
    const absl::StatusOr<std::string> frame = commands.Receive(0, kForever);
    if (!frame.ok()) return frame.status();
    if (*frame == stop) return absl::OkStatus();
    RETURN_IF_ERROR(Obey(*frame, own, group, commands, parts));
  }
}

}  // namespace longhaul
