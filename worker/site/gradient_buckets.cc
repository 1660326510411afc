#include "worker/site/gradient_buckets.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul {

GradientBuckets::GradientBuckets(const ParameterTable& table) {
  const auto& parameters = table.parameters;
  std::vector<size_t> order;
  for (size_t i = parameters.size(); i-- > 0;) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return parameters[a].layer > parameters[b].layer; });
  bucket_of_.assign(parameters.size(), parameters.size());
  for (size_t i : order) {
    if (parameters[i].elements < kSmallParameter) continue;
    bucket_of_[i] = buckets_.size();
    buckets_.push_back({parameters[i].offset, parameters[i].elements});
  }
  large_ = buckets_.size();
  for (const Parameter& p : parameters) {  // neighbours together
    if (p.elements >= kSmallParameter) continue;
    if (buckets_.size() > large_ && buckets_.back().offset + buckets_.back().elements == p.offset) {
      buckets_.back().elements += p.elements;
    } else {
      buckets_.push_back({p.offset, p.elements});
    }
  }
}

void GradientBuckets::Begin(DeviceGroup& sums, std::span<float> gradient) {
  sums_ = &sums;
  gradient_ = gradient;
  ready_.assign(large_, false);
  next_ = 0;
}

void GradientBuckets::StartNext() {
  const Bucket& bucket = buckets_[next_++];
  sums_->StartSum(gradient_.subspan(bucket.offset, bucket.elements));
}

void GradientBuckets::Ready(size_t parameter) {
  if (sums_ == nullptr || bucket_of_[parameter] >= large_) return;
  ready_[bucket_of_[parameter]] = true;
  while (next_ < large_ && ready_[next_]) StartNext();
}

void GradientBuckets::Finish() {
  LONGHAUL_CHECK(sums_ != nullptr, "sums end before they begin");
  while (next_ < buckets_.size()) StartNext();
  sums_ = nullptr;
}

}  // namespace longhaul
