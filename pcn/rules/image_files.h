// Image sets of the predictive-coding suite: IDX or CIFAR files from a folder, or generated digits.
//
// Thread rule: free functions; any thread.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "pcn/rules/digits.h"

namespace longhaul::pcn {

// Both parts of the handwritten digits in `folder` (mnist8k-{train,test}-images-idx3-ubyte.gz and
// their labels), the test part last. Reads through gzip. NotFound, DataLoss.
absl::StatusOr<ImageSet> LoadIdxDigits(const std::string& folder);
// Both parts of CIFAR-10's subset, in gray, the middle 28 x 28. NotFound, DataLoss.
absl::StatusOr<ImageSet> LoadGrayCifar(const std::string& folder);

}  // namespace longhaul::pcn
