// What a worker is asked to do, as one line for people who want to see everything.
#pragma once

#include <string>

#include "worker/core/worker.h"

namespace longhaul {
std::string Describe(const WorkerRequest& request);
std::string Describe(const ContributionId& id);  // "3/1": session 3, its first
}  // namespace longhaul
