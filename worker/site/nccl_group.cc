// Groups on NCCL. The communicator never blocks the host for ever: it is asked again and again
// until a deadline, and a rank that is gone or stuck ends in ncclCommAbort or ncclCommShrink.
#include "worker/site/nccl_group.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "compression/cuda/plugin_fragments.h"

using Clock = std::chrono::steady_clock;

struct LonghaulGroup {
  int device = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t produced = nullptr, summed = nullptr;
  std::vector<uint32_t> living;  // first ranks, in the communicator's order
  std::chrono::milliseconds deadline{0};
  std::string error;  // of the sums since the last wait
  std::atomic<bool> aborted{false};
};

namespace longhaul::cuda {
namespace {

static_assert(sizeof(ncclUniqueId) == LONGHAUL_GROUP_ID_BYTES);

constexpr auto kPause = std::chrono::microseconds(50);

std::string VersionText(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

// "" when the library fits the header that this was compiled with.
std::string NcclMismatch() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "NCCL does not say its version";
  if (version / 10000 == NCCL_MAJOR && version >= NCCL_VERSION_CODE) return "";
  return "NCCL " + VersionText(version) + " was loaded, but this plug-in needs " +
         std::to_string(NCCL_MAJOR) + "." + std::to_string(NCCL_MINOR) + "." +
         std::to_string(NCCL_PATCH) + " or a newer one of the same major version";
}

int Failed(const std::string& text, char* error, uint64_t size, int result) {
  CopyText(text.c_str(), error, size);
  return result;
}

// Waits until the communicator has finished what it was asked, or says why it has not.
std::string Settle(LonghaulGroup& g, ncclComm_t comm, Clock::time_point until) {
  for (;;) {
    ncclResult_t state = ncclInProgress;
    if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) return "NCCL does not answer";
    if (state == ncclSuccess) return "";
    if (state != ncclInProgress) return ncclGetErrorString(state);
    if (g.aborted) return "aborted";
    if (Clock::now() > until) return "a rank is stuck: nothing came before the deadline";
    std::this_thread::sleep_for(kPause);
  }
}

ncclConfig_t NonBlocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

void Free(LonghaulGroup* g) {
  cudaSetDevice(g->device);
  if (g->comm != nullptr) ncclCommAbort(g->comm);
  if (g->produced != nullptr) cudaEventDestroy(g->produced);
  if (g->summed != nullptr) cudaEventDestroy(g->summed);
  if (g->stream != nullptr) cudaStreamDestroy(g->stream);
  delete g;
}

int Id(uint8_t* id, char* error, uint64_t size) {
  const std::string mismatch = NcclMismatch();
  if (!mismatch.empty()) return Failed(mismatch, error, size, LONGHAUL_CUDA_DEVICE);
  ncclUniqueId unique;
  const ncclResult_t result = ncclGetUniqueId(&unique);
  if (result != ncclSuccess) {
    return Failed(ncclGetErrorString(result), error, size, LONGHAUL_CUDA_DEVICE);
  }
  std::memcpy(id, &unique, sizeof unique);
  return LONGHAUL_CUDA_OK;
}

std::string Open(LonghaulGroup& g, const uint8_t* id, uint32_t rank, uint32_t size) {
  if (cudaSetDevice(g.device) != cudaSuccess ||
      cudaStreamCreateWithFlags(&g.stream, cudaStreamNonBlocking) != cudaSuccess ||
      cudaEventCreateWithFlags(&g.produced, cudaEventDisableTiming) != cudaSuccess ||
      cudaEventCreateWithFlags(&g.summed, cudaEventDisableTiming) != cudaSuccess) {
    return cudaGetErrorString(cudaGetLastError());
  }
  ncclUniqueId unique;
  std::memcpy(&unique, id, sizeof unique);
  ncclConfig_t config = NonBlocking();
  const ncclResult_t result = ncclCommInitRankConfig(&g.comm, static_cast<int>(size), unique,
                                                     static_cast<int>(rank), &config);
  if (result != ncclSuccess && result != ncclInProgress) return ncclGetErrorString(result);
  return Settle(g, g.comm, Clock::now() + g.deadline);
}

int Make(const uint8_t* id, uint32_t rank, uint32_t size, int32_t device, uint64_t deadline_ms,
         LonghaulGroup** out, char* error, uint64_t error_size) {
  const std::string mismatch = NcclMismatch();
  if (!mismatch.empty()) return Failed(mismatch, error, error_size, LONGHAUL_CUDA_DEVICE);
  auto* g = new LonghaulGroup;
  g->device = device;
  g->deadline = std::chrono::milliseconds(deadline_ms);
  for (uint32_t r = 0; r < size; ++r) g->living.push_back(r);
  const std::string problem = Open(*g, id, rank, size);
  if (!problem.empty()) {
    Free(g);
    return Failed(problem, error, error_size, LONGHAUL_CUDA_RANK_LOST);
  }
  *out = g;
  return LONGHAUL_CUDA_OK;
}

void StartSum(LonghaulGroup* g, float* values, uint64_t n, void* producer) {
  if (!g->error.empty()) return;
  cudaSetDevice(g->device);
  if (cudaEventRecord(g->produced, static_cast<cudaStream_t>(producer)) != cudaSuccess ||
      cudaStreamWaitEvent(g->stream, g->produced, 0) != cudaSuccess) {
    g->error = cudaGetErrorString(cudaGetLastError());
    return;
  }
  const ncclResult_t result =
      ncclAllReduce(values, values, n, ncclFloat32, ncclSum, g->comm, g->stream);
  if (result == ncclInProgress) {
    g->error = Settle(*g, g->comm, Clock::now() + g->deadline);
  } else if (result != ncclSuccess) {
    g->error = ncclGetErrorString(result);
  }
}

int Wait(LonghaulGroup* g, char* error, uint64_t size) {
  cudaSetDevice(g->device);
  if (g->error.empty() && cudaEventRecord(g->summed, g->stream) != cudaSuccess) {
    g->error = cudaGetErrorString(cudaGetLastError());
  }
  const Clock::time_point until = Clock::now() + g->deadline;
  while (g->error.empty()) {
    const cudaError_t done = cudaEventQuery(g->summed);
    if (done == cudaSuccess) return LONGHAUL_CUDA_OK;
    if (done != cudaErrorNotReady) g->error = cudaGetErrorString(done);
    ncclResult_t state = ncclSuccess;
    ncclCommGetAsyncError(g->comm, &state);
    if (state != ncclSuccess && state != ncclInProgress) g->error = ncclGetErrorString(state);
    if (g->aborted) g->error = "aborted";
    if (Clock::now() > until) g->error = "a rank is stuck: a sum was not complete in time";
    std::this_thread::sleep_for(kPause);
  }
  return Failed(g->error, error, size, LONGHAUL_CUDA_RANK_LOST);
}

// Until the communicator has made its child. It may keep the error of the rank that was lost, so
// only the child tells whether that went well.
void AwaitChild(const LonghaulGroup& g, Clock::time_point until) {
  ncclResult_t state = ncclInProgress;
  while (ncclCommGetAsyncError(g.comm, &state) == ncclSuccess && state == ncclInProgress &&
         !g.aborted && Clock::now() < until) {
    std::this_thread::sleep_for(kPause);
  }
}

int Shrink(LonghaulGroup* g, const uint32_t* living, uint32_t n, char* error, uint64_t size) {
  cudaSetDevice(g->device);
  std::vector<int> excluded;
  for (size_t i = 0; i < g->living.size(); ++i) {
    if (std::find(living, living + n, g->living[i]) == living + n) {
      excluded.push_back(static_cast<int>(i));
    }
  }
  if (excluded.empty()) {  // which NCCL does not take
    return Failed("a sum failed, but no rank is lost", error, size, LONGHAUL_CUDA_RANK_LOST);
  }
  ncclComm_t shrunk = nullptr;
  ncclConfig_t config = NonBlocking();
  // Ends the sums that hang, too.
  const ncclResult_t result =
      ncclCommShrink(g->comm, excluded.data(), static_cast<int>(excluded.size()), &shrunk, &config,
                     NCCL_SHRINK_ABORT);
  if (result != ncclSuccess && result != ncclInProgress) {
    return Failed(ncclGetErrorString(result), error, size, LONGHAUL_CUDA_RANK_LOST);
  }
  const Clock::time_point until = Clock::now() + g->deadline;
  AwaitChild(*g, until);
  const std::string problem =
      shrunk != nullptr ? Settle(*g, shrunk, until) : "NCCL made no smaller communicator";
  if (!problem.empty()) return Failed(problem, error, size, LONGHAUL_CUDA_RANK_LOST);
  ncclCommAbort(g->comm);
  g->comm = shrunk;
  g->living.assign(living, living + n);
  g->error.clear();
  return LONGHAUL_CUDA_OK;
}

int Describe(char* text, uint64_t text_size, char* error, uint64_t error_size) {
  const std::string mismatch = NcclMismatch();
  if (!mismatch.empty()) return Failed(mismatch, error, error_size, LONGHAUL_CUDA_DEVICE);
  int nccl = 0, runtime = 0, devices = 0;
  ncclGetVersion(&nccl);
  cudaRuntimeGetVersion(&runtime);
  if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
  const std::string all = "CUDA " + std::to_string(runtime / 1000) + "." +
                          std::to_string(runtime % 1000 / 10) + ", NCCL " + VersionText(nccl) +
                          ", " + std::to_string(devices) + (devices == 1 ? " GPU" : " GPUs");
  CopyText(all.c_str(), text, text_size);
  return LONGHAUL_CUDA_OK;
}

}  // namespace

void AddGroups(LonghaulCudaPlugin& table) {
  table.describe = Describe;
  table.group_id = Id;
  table.group_make = Make;
  table.group_free = Free;
  table.group_start_sum = StartSum;
  table.group_wait = Wait;
  table.group_shrink = Shrink;
  table.group_abort = [](LonghaulGroup* g) { g->aborted = true; };
}

}  // namespace longhaul::cuda

extern "C" __attribute__((visibility("default"))) const LonghaulCudaPlugin* longhaul_cuda_plugin() {
  static const LonghaulCudaPlugin table = [] {
    LonghaulCudaPlugin t{};
    t.abi = LONGHAUL_CUDA_ABI;
    t.size = sizeof t;
    longhaul::cuda::AddFragments(t);
    longhaul::cuda::AddGroups(t);
    return t;
  }();
  return &table;
}
