// The engine (compression/cuda/grid.h) of one GPU: memory, and a stream of its own.
//
// Thread rule: one thread. Every call sets the device first, because that is a thread's setting and
// others use the thread, too. After the first error everything fails; `error` says what it was.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "compression/cuda/grid.h"

namespace longhaul::cuda {

// One block on the device; compiled for both sides, because kernels are.
class DeviceBlock {
 public:
  template <class F>
  LONGHAUL_SHARED void Each(F&& f) {
#ifdef __CUDA_ARCH__
    __syncthreads();
    f(static_cast<uint32_t>(threadIdx.x));
    __syncthreads();
#endif
  }
  template <class F>
  LONGHAUL_SHARED uint32_t Vote(F&& f) {
#ifdef __CUDA_ARCH__
    __syncthreads();
    return __ballot_sync(0xffffffffu, f(static_cast<uint32_t>(threadIdx.x)));
#else
    return 0;
#endif
  }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) RunKernel(const Kernel kernel) {
  // Raw, because a shared variable must not have a constructor; kernels set what they read.
  __shared__ alignas(64) unsigned char storage[sizeof(typename Kernel::Shared)];
  DeviceBlock block;
  kernel(block, *reinterpret_cast<typename Kernel::Shared*>(storage),
         static_cast<uint32_t>(blockIdx.x));
}

// For people. CUDA says the same of a driver that is old and of one that is not there.
inline const char* ErrorText(cudaError_t error) {
  if (error != cudaErrorInsufficientDriver) return cudaGetErrorString(error);
  return "no NVIDIA driver, or one older than 580, which CUDA 13 needs";
}

class DeviceEngine {
 public:
  explicit DeviceEngine(int device) : device_(device) {
    Enter();
    Note("stream", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~DeviceEngine() {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  DeviceEngine(const DeviceEngine&) = delete;
  DeviceEngine& operator=(const DeviceEngine&) = delete;

  // Memory is zero at first.
  void* Allocate(size_t bytes) {
    void* memory = nullptr;
    Enter();
    if (!Note("allocate", cudaMalloc(&memory, std::max<size_t>(bytes, 1)))) return nullptr;
    Zero(memory, bytes);
    return memory;
  }
  void Free(void* memory) {
    Enter();
    cudaStreamSynchronize(stream_);
    cudaFree(memory);
  }
  void* AllocateHost(size_t bytes) {
    void* memory = nullptr;
    Enter();
    const bool good = Note("pinned memory", cudaMallocHost(&memory, std::max<size_t>(bytes, 1)));
    return good ? memory : nullptr;
  }
  void FreeHost(void* memory) { cudaFreeHost(memory); }

  bool ToDevice(void* to, const void* from, size_t bytes) {
    return Move("copy to the device", to, from, bytes, cudaMemcpyHostToDevice, true);
  }
  bool ToHost(void* to, const void* from, size_t bytes) {
    return Move("copy to the host", to, from, bytes, cudaMemcpyDeviceToHost, true);
  }
  bool Copy(void* to, const void* from, size_t bytes) {
    return Move("copy", to, from, bytes, cudaMemcpyDeviceToDevice, false);
  }
  bool Zero(void* memory, size_t bytes) {
    Enter();
    return bytes == 0 || Note("clear", cudaMemsetAsync(memory, 0, bytes, stream_));
  }
  template <class Kernel>
  void Launch(const Kernel& kernel, uint32_t blocks) {
    if (blocks == 0 || !ok()) return;
    Enter();
    RunKernel<Kernel><<<blocks, Kernel::kThreads, 0, stream_>>>(kernel);
    Note("kernel", cudaGetLastError());
  }
  // What others have started on the device, whatever the stream, is over when this returns.
  bool Synchronise() {
    Enter();
    return Note("synchronise", cudaDeviceSynchronize());
  }
  bool ok() const { return error_.empty(); }
  const std::string& error() const { return error_; }
  uint64_t crossed() const { return crossed_; }

 private:
  void Enter() { Note("device", cudaSetDevice(device_)); }
  // True when all is well so far.
  bool Note(const char* what, cudaError_t result) {
    if (result != cudaSuccess && error_.empty()) {
      error_ = std::string(what) + ": " + ErrorText(result);
    }
    return error_.empty();
  }
  bool Move(const char* what, void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
            bool wait) {
    if (bytes == 0) return ok();
    Enter();
    if (!ok() || !Note(what, cudaMemcpyAsync(to, from, bytes, kind, stream_))) return false;
    if (kind != cudaMemcpyDeviceToDevice) crossed_ += bytes;
    return !wait || Note(what, cudaStreamSynchronize(stream_));
  }

  const int device_;
  cudaStream_t stream_ = nullptr;
  std::string error_;
  uint64_t crossed_ = 0;
};

}  // namespace longhaul::cuda
