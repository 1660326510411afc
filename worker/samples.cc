#include "worker/samples.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "common/status_macros.h"
#include "proto/run_config.h"
#include "sharding/order/order.h"

namespace longhaul {
namespace {

class CorpusSamples : public Samples {
 public:
  CorpusSamples(std::shared_ptr<const Corpus> corpus, uint64_t seed)
      : corpus_(std::move(corpus)), order_(seed, corpus_->samples()) {}

  absl::Status Read(uint64_t position, std::span<uint16_t> out) override {
    corpus_->ReadSample(order_.Sample(position), out);
    return absl::OkStatus();
  }
  uint64_t validation_samples() const override { return corpus_->validation_samples(); }
  absl::Status ReadValidation(uint64_t i, std::span<uint16_t> out) override {
    corpus_->ReadValidationSample(i, out);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const Corpus> corpus_;
  const SampleOrder order_;
};

class ManifestSamples : public Samples {
 public:
  ManifestSamples(std::unique_ptr<BlockFeed> feed, uint32_t vocab_size)
      : feed_(std::move(feed)),
        data_(feed_->manifest(), *feed_),
        vocab_size_(vocab_size),
        wide_(kSampleTokens) {
    for (const ManifestDomain& domain : data_.manifest().domains)
      validation_samples_ += domain.validation_samples;
  }

  absl::Status Read(uint64_t position, std::span<uint16_t> out) override {
    const OrderPlace place = feed_->order().At(position);
    const absl::Status status = data_.ReadSample(place.domain, place.sample, wide_);
    feed_->NoteRead(position);
    if (absl::IsFailedPrecondition(status)) return absl::NotFoundError(status.message());
    RETURN_IF_ERROR(status);
    return Narrow(out);
  }

  uint64_t validation_samples() const override { return validation_samples_; }

  // The domains in turn, so that the first few are of all of them.
  absl::Status ReadValidation(uint64_t i, std::span<uint16_t> out) override {
    const std::vector<ManifestDomain>& domains = data_.manifest().domains;
    for (uint64_t number = 0;; ++number) {
      for (uint32_t d = 0; d < domains.size(); ++d) {
        if (number >= domains[d].validation_samples || i-- > 0) continue;
        RETURN_IF_ERROR(data_.ReadValidationSample(d, number, wide_));
        return Narrow(out);
      }
    }
  }

  void SetLeases(const std::vector<LeaseRange>& leases) override { feed_->SetLeases(leases); }
  void NoteExchange() override { feed_->NoteExchange(); }
  void Close() override { feed_->Close(); }
  absl::StatusOr<std::string> Stored(const FetchBlob& request) override {
    return feed_->Stored(request);
  }
  std::string Describe() const override {
    const BlockFeed::Stats s = feed_->stats();
    char text[160];
    std::snprintf(text, sizeof text,
                  "training data: %llu blocks, %.1f MB downloaded, %.1f MB of it from other "
                  "workers; training waited %.2f s for it",
                  static_cast<unsigned long long>(s.blocks),
                  1e-6 * static_cast<double>(s.downloaded_bytes),
                  1e-6 * static_cast<double>(s.holder_bytes),
                  1e-9 * static_cast<double>(s.waited_ns));
    return text;
  }

 private:
  absl::Status Narrow(std::span<uint16_t> out) const {
    for (size_t i = 0; i < out.size(); ++i) {
      if (wide_[i] >= vocab_size_)
        return absl::DataLossError("a token of the data is outside the model's vocabulary");
      out[i] = static_cast<uint16_t>(wide_[i]);
    }
    return absl::OkStatus();
  }

  const std::unique_ptr<BlockFeed> feed_;
  DataSet data_;
  const uint32_t vocab_size_;
  uint64_t validation_samples_ = 0;
  std::vector<uint32_t> wide_;
};

}  // namespace

std::unique_ptr<Samples> SamplesOf(std::shared_ptr<const Corpus> corpus, uint64_t seed) {
  return std::make_unique<CorpusSamples>(std::move(corpus), seed);
}

std::unique_ptr<Samples> SamplesOf(std::unique_ptr<BlockFeed> feed, uint32_t vocab_size) {
  return std::make_unique<ManifestSamples>(std::move(feed), vocab_size);
}

}  // namespace longhaul
