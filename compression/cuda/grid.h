// One source for a kernel and its twin on the processor.
//
// A kernel is a plain struct of pointers with `kThreads`, a type `Shared`, and
//   template <class Block> void operator()(Block& block, Shared& shared, uint32_t index) const;
// which does the work of one thread block. All threads run what stands outside Each together and
// alike; Each(f) calls f(thread) for every thread, with a barrier before and after. Whatever a
// thread keeps from one Each to the next is in `shared`. On the device Each is a call and two
// barriers, on the processor a loop, so a test of the twin tests the kernel's own code: all but
// races inside one Each, where threads may meet only in atomics.
//
// Values: -fmad=false on the device and -ffp-contract=off on the processor, so both give the same
// bits; sums over threads are integers, whose order does not matter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "compression/host_device.h"

namespace longhaul::cuda {

template <class T>
LONGHAUL_SHARED inline void AtomicAdd(T* at, T value) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 8) {
    atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
  } else {
    atomicAdd(at, value);
  }
#else
  *at += value;
#endif
}

LONGHAUL_SHARED inline void AtomicMax(uint32_t* at, uint32_t value) {
#ifdef __CUDA_ARCH__
  atomicMax(at, value);
#else
  *at = Most(*at, value);
#endif
}

// One block on the processor.
class HostBlock {
 public:
  explicit HostBlock(uint32_t threads) : threads_(threads) {}
  template <class F>
  void Each(F&& f) {
    for (uint32_t t = 0; t < threads_; ++t) f(t);
  }
  // In blocks of 32 threads: bit t tells what f(t) says; the same for all.
  template <class F>
  uint32_t Vote(F&& f) {
    uint32_t mask = 0;
    for (uint32_t t = 0; t < 32; ++t) mask |= uint32_t{f(t)} << t;
    return mask;
  }

 private:
  const uint32_t threads_;
};

// Runs kernels and keeps memory on the processor. The interface of every engine: memory calls give
// null or false when they fail, Launch goes on and `ok` says so.
class HostEngine {
 public:
  void* Allocate(size_t bytes) { return std::calloc(bytes == 0 ? 1 : bytes, 1); }
  void Free(void* memory) { std::free(memory); }
  void* AllocateHost(size_t bytes) { return Allocate(bytes); }  // pinned, where that means a thing
  void FreeHost(void* memory) { Free(memory); }
  bool ToDevice(void* to, const void* from, size_t bytes) { return Cross(to, from, bytes); }
  bool ToHost(void* to, const void* from, size_t bytes) { return Cross(to, from, bytes); }
  bool Copy(void* to, const void* from, size_t bytes) { return Move(to, from, bytes); }
  bool Zero(void* memory, size_t bytes) {
    if (bytes != 0) std::memset(memory, 0, bytes);
    return true;
  }
  template <class Kernel>
  void Launch(const Kernel& kernel, uint32_t blocks) {
    auto shared = std::make_unique<typename Kernel::Shared>();
    HostBlock block(Kernel::kThreads);
    for (uint32_t b = 0; b < blocks; ++b) kernel(block, *shared, b);
  }
  bool ok() const { return true; }
  uint64_t crossed() const { return crossed_; }  // bytes of ToDevice and ToHost so far

 private:
  static bool Move(void* to, const void* from, size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
    return true;
  }
  bool Cross(void* to, const void* from, size_t bytes) {
    crossed_ += bytes;
    return Move(to, from, bytes);
  }

  uint64_t crossed_ = 0;
};

// Memory of an engine, which outlives it; on the device, or on the host.
template <class T, class Engine, bool kOnHost = false>
class Array {
 public:
  Array() = default;
  Array(Engine& engine, size_t size) : engine_(&engine), size_(size) {
    void* memory =
        kOnHost ? engine.AllocateHost(size * sizeof(T)) : engine.Allocate(size * sizeof(T));
    data_ = static_cast<T*>(memory);
  }
  Array(Array&& other) noexcept { *this = static_cast<Array&&>(other); }
  Array& operator=(Array&& other) noexcept {
    if (this == &other) return *this;
    Release();
    engine_ = other.engine_;
    size_ = other.size_;
    data_ = other.data_;
    other.data_ = nullptr;
    other.size_ = 0;
    return *this;
  }
  ~Array() { Release(); }

  bool ok() const { return engine_ == nullptr || data_ != nullptr; }
  T* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void Release() {
    if (data_ == nullptr) return;
    kOnHost ? engine_->FreeHost(data_) : engine_->Free(data_);
    data_ = nullptr;
  }

  Engine* engine_ = nullptr;
  size_t size_ = 0;
  T* data_ = nullptr;
};

}  // namespace longhaul::cuda
