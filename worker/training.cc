#include "worker/training.h"

#include <chrono>
#include <cmath>
#include <utility>

#include "common/check.h"
#include "common/log.h"

namespace longhaul {
namespace {

int64_t MonotonicNs() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Replica::Options ReplicaOptions(const RunConfig& config, std::vector<TensorSpan> tensors) {
  return {*CodecSpecByName(config.sync.codec, config.sync.bits),
          *CodecSpecByName(config.sync.codec_down, BitsDown(config)),
          static_cast<float>(config.sync.error_feedback), std::move(tensors),
          static_cast<float>(config.sync.mixing)};
}

}  // namespace

TrainingThread::TrainingThread(Options options, Post post)
    : config_(std::move(options.config)),
      trainer_(std::move(options.trainer)),
      samples_(std::move(options.samples)),
      layout_(std::move(options.layout)),
      snapshot_folder_(std::move(options.snapshot_folder)),
      snapshot_(std::move(options.snapshot)),
      post_(std::move(post)) {
  for (uint64_t i = 0; i < layout_.size(); ++i) {
    replicas_.push_back(std::make_unique<Replica>(ReplicaOptions(config_, options.tensors.at(i)),
                                                  FragmentId{i}, layout_[i], *trainer_));
  }
  thread_ = std::thread([this] { Run(); });
}

TrainingThread::~TrainingThread() {
  jobs_.Close();
  thread_.join();
}

void TrainingThread::Start(WorkerRequest job, Fetched fetched) {
  LONGHAUL_CHECK(jobs_.TryPush({std::move(job), std::move(fetched)}),
                 "the core starts few jobs at a time");
}

void TrainingThread::Run() {
  while (std::optional<Job> job = jobs_.Pop()) {
    std::visit([&](const auto& request) { Do(request, job->fetched); }, job->request);
    if (first_step_ns_ != 0) last_ns_ = MonotonicNs();
  }
}

TrainingThread::Progress TrainingThread::progress() const {
  Progress p{.steps = steps_, .computing_ns = computing_ns_, .loss = loss_};
  const int64_t first = first_step_ns_;
  if (first != 0) p.total_ns = static_cast<uint64_t>(last_ns_ - first);
  return p;
}

// Samples that have been withdrawn from the data set are left out.
absl::StatusOr<std::vector<uint16_t>> TrainingThread::TokensAt(
    const std::vector<uint64_t>& positions) {
  std::vector<uint16_t> tokens(samples_ ? positions.size() * kSampleTokens : 0);
  size_t used = 0;
  for (size_t i = 0; i < positions.size() && samples_; ++i) {
    const absl::Status status =
        samples_->Read(positions[i], std::span(tokens).subspan(used, kSampleTokens));
    if (status.ok()) used += kSampleTokens;
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  tokens.resize(used);
  return tokens;
}

void TrainingThread::Do(const TrainStep& job, const Fetched&) {
  if (first_step_ns_ == 0) first_step_ns_ = last_ns_ = MonotonicNs();
  const absl::StatusOr<std::vector<uint16_t>> tokens = TokensAt(job.positions);
  if (!tokens.ok()) return post_(LeaveWanted{std::string(tokens.status().message())}, nullptr);
  const int64_t begin = MonotonicNs();               // waiting for data is not computing
  const bool nothing = samples_ && tokens->empty();  // all of it was withdrawn
  absl::StatusOr<StepOutput> out =
      nothing ? StepOutput{loss_, 0} : trainer_->Step({job.step, job.positions, *tokens});
  StepDone done{.finite = out.ok() && std::isfinite(out->loss)};
  if (!out.ok()) LogError("training step failed: " + std::string(out.status().message()));
  if (done.finite) loss_ = done.loss = out->loss;
  computing_ns_ += static_cast<uint64_t>(MonotonicNs() - begin);
  ++steps_;
  post_(done, nullptr);
}

void TrainingThread::Do(const CodeContribution& job, const Fetched&) {
  ObjectInfo object{
      .id = {ObjectKind::kContribution, job.generation, job.fragment, job.base, job.id}};
  absl::StatusOr<Replica::Coded> coded = Part(job.fragment).Code(job.slices);
  if (!coded.ok()) {
    LogError(std::string(coded.status().message()));
    return post_(ContributionCoded{object, {}}, nullptr);
  }
  coded->object.id = object.id;
  post_(ContributionCoded{coded->object, coded->slices}, coded->chunks);
}

void TrainingThread::Do(const ApplyCommit& job, const Fetched& fetched) {
  Replica& replica = Part(job.commit.fragment);
  absl::Status status = replica.Apply(job.commit, *fetched);
  if (!status.ok())
    LogError("aggregate of version " + std::to_string(job.commit.version.value) + ": " +
             std::string(status.message()));
  post_(CommitApplied{replica.state()}, nullptr);
}

void TrainingThread::Do(const LoadState& job, const Fetched& fetched) {
  Replica& replica = Part(job.object.id.fragment);
  absl::Status status = replica.Load(job.object.id.version, std::move(*fetched));
  // Its root was right, so the coordinator itself has a state that no model has.
  if (!status.ok()) return post_(LeaveWanted{std::string(status.message())}, nullptr);
  post_(StateLoaded{replica.state()}, nullptr);
}

void TrainingThread::Do(const ResolveContribution& job, const Fetched&) {
  Part(job.fragment).Resolve(job.outcome);
  post_(JobDone{}, nullptr);
}

void TrainingThread::Do(const ResetProgress& job, const Fetched&) {
  for (auto& replica : replicas_) replica->ResetProgress(job.residual);
  if (job.inner_state) trainer_->ResetInnerState();
  post_(JobDone{}, nullptr);
}

void TrainingThread::Do(const UnloadFragment& job, const Fetched&) {
  Part(job.fragment).Unload();
  post_(JobDone{}, nullptr);
}

// A snapshot that cannot be written or used costs the next process its residual, nothing else.
void TrainingThread::Do(const SaveSnapshot& job, const Fetched&) {
  absl::Status status;
  if (!snapshot_folder_.empty()) {
    auto storage = OpenFileStorage(snapshot_folder_);
    std::vector<std::span<const float>> residuals;
    for (const auto& replica : replicas_) residuals.push_back(replica->residual());
    status = storage.ok() ? WriteWorkerSnapshot(**storage, kSnapshotFile, job, residuals,
                                                trainer_->SaveInnerState())
                          : storage.status();
  }
  if (!status.ok()) LogWarning("no snapshot: " + std::string(status.message()));
  post_(JobDone{}, nullptr);
}

void TrainingThread::Do(const LoadSnapshot&, const Fetched&) {
  absl::Status status;
  if (snapshot_ && snapshot_->residuals.size() == replicas_.size()) {
    for (size_t i = 0; i < replicas_.size(); ++i)
      status.Update(replicas_[i]->SetResidual(std::move(snapshot_->residuals[i])));
    status.Update(trainer_->LoadInnerState(snapshot_->inner_state));
  }
  snapshot_.reset();
  if (!status.ok()) LogWarning("snapshot not used: " + std::string(status.message()));
  post_(JobDone{}, nullptr);
}

std::span<const float> TrainingThread::Global() {
  if (replicas_.size() == 1) return replicas_[0]->parameters();
  global_.resize(trainer_->parameters());
  for (size_t i = 0; i < replicas_.size(); ++i)
    Scatter(layout_[i], replicas_[i]->parameters(), 0, global_);
  return global_;
}

void TrainingThread::Do(const RunRequest& job, const Fetched&) {
  RequestDone done =
      job.request.kind == RequestKind::kEvaluate ? Evaluate(job.request) : Sample(job.request);
  done.request = job.request.id;
  post_(RequestFinished{done}, nullptr);
}

RequestDone TrainingThread::Evaluate(const WorkRequest&) {
  RequestDone done;
  const uint64_t samples =
      samples_ ? std::min(kMaxEvaluationSamples, samples_->validation_samples()) : 0;
  std::vector<uint16_t> tokens(samples * kSampleTokens);
  for (uint64_t i = 0; i < samples; ++i) {
    const absl::Status status =
        samples_->ReadValidation(i, std::span(tokens).subspan(i * kSampleTokens, kSampleTokens));
    if (status.ok()) continue;
    done.error = std::string(status.message());
    return done;
  }
  absl::StatusOr<StepOutput> out = trainer_->Evaluate(Global(), tokens);
  if (!out.ok()) {
    done.error = std::string(out.status().message());
    return done;
  }
  done.loss = out->loss;
  done.tokens = out->targets;
  return done;
}

RequestDone TrainingThread::Sample(const WorkRequest& request) {
  RequestDone done;
  std::vector<uint16_t> prompt;
  for (char c : request.prompt) prompt.push_back(static_cast<uint8_t>(c));
  auto out = trainer_->Sample(Global(), prompt, request.tokens, config_.run.seed);
  if (!out.ok()) {
    done.error = std::string(out.status().message());
    return done;
  }
  done.text = request.prompt;
  for (uint16_t token : *out) done.text.push_back(static_cast<char>(token));
  done.tokens = out->size();
  return done;
}

}  // namespace longhaul
