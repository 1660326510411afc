// Which parts of a flat gradient are summed over a site's ranks, and when: each as soon as backward
// is done with it, so that sums and backward overlap; but always in one order, from the last layer
// to the first, because every rank must start the same sums.
//
// Thread rule: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/parameter_table.h"
#include "worker/site/device_group.h"

namespace longhaul {

// Smaller parameters are not worth a sum of their own; they are summed together at the end.
inline constexpr uint64_t kSmallParameter = 1u << 16;

class GradientBuckets {
 public:
  explicit GradientBuckets(const ParameterTable& table);

  // The next backward pass fills `gradient`, as long as the table, for these sums.
  void Begin(DeviceGroup& sums, std::span<float> gradient);
  // The gradient of this parameter of the table is complete.
  void Ready(size_t parameter);
  // All are: starts what has not been started.
  void Finish();

 private:
  struct Bucket {
    uint64_t offset = 0, elements = 0;
  };
  void StartNext();

  std::vector<Bucket> buckets_;    // in the order of sums; large ones first, then the small rest
  std::vector<size_t> bucket_of_;  // by parameter; buckets_.size(): none of its own
  size_t large_ = 0;
  std::vector<bool> ready_;
  size_t next_ = 0;
  DeviceGroup* sums_ = nullptr;  // null: outside of Begin and Finish
  std::span<float> gradient_;
};

}  // namespace longhaul
