// The inner optimizer "muon". See inner_optimizer.h, also for the thread rule.
#pragma once

#include <memory>

#include "worker/train/inner_optimizer.h"

namespace longhaul {

std::unique_ptr<InnerOptimizer> MakeMuon(const ParameterTable& table,
                                         const OptimizerOptions& options, const at::Tensor& like);

}  // namespace longhaul
