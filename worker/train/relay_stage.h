// One stage of a Relay run as a process: joins a coordinator with an invitation, holds the block
// that it is given, talks to its neighbours, and trains until the run is over.
//
// The stage's rules are pcn::Stage's, the block's arithmetic pcn::RelayBlock's; here are sockets,
// clocks and images. Stage 0 reads the inputs and the top the labels from their own copy of the
// images, by the number of the micro-batch.
//
// Thread rule: RunRelayStage blocks its caller; sockets have threads of their own.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "compression/codec.h"
#include "pcn/relay/control.h"
#include "proto/run_config.h"
#include "sync/fragments.h"
#include "transport/invitation.h"

namespace longhaul {

struct RelayStageOptions {
  Invitation invitation;
  std::string listen = "127.0.0.1:0";  // for the stage below
  std::string images;                  // folder with IDX digits; unused with generated ones
  std::string output;                  // folder for the block at the end; "": not kept
  double speed = 0;                    // 0: measured
  uint64_t memory_bytes = UINT64_MAX;
  double give_up_s = 60;  // without an answer of the coordinator
  // For blocks with replicas: see WorkerService::Options.
  std::function<std::vector<FragmentLayout>(const RunConfig&)> make_layout;
  std::function<std::vector<std::vector<TensorSpan>>(const RunConfig&)> make_tensors;
  std::function<void(const std::string&)> say;
};

// OK when the run is over, or `stop` is not 0. Unavailable: the coordinator does not answer.
// FailedPrecondition: another took our place, the run cannot go on, or the one that averages our
// block refused us. InvalidArgument, NotFound,
// DataLoss: our images.
absl::Status RunRelayStage(const RelayStageOptions& options, const std::atomic<int>& stop);

}  // namespace longhaul
