#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "compression/cuda/device_engine.cuh"
#include "compression/cuda/device_fragment.h"
#include "compression/cuda/plugin_fragments.h"

struct LonghaulFragment {
  LonghaulFragment(int device,
                   longhaul::cuda::FragmentCoder<longhaul::cuda::DeviceEngine>::Options options,
                   float decay)
      : engine(device), fragment(engine, std::move(options), decay) {}

  longhaul::cuda::DeviceEngine engine;
  longhaul::cuda::DeviceFragment<longhaul::cuda::DeviceEngine> fragment;
  longhaul::cuda::CodedBytes code;
};

namespace longhaul::cuda {
namespace {

int Failed(const char* text, char* error, uint64_t size, int result) {
  CopyText(text, error, size);
  return result;
}

int ResultOf(CoderResult result, const LonghaulFragment& fragment, char* error, uint64_t size) {
  switch (result) {
    case CoderResult::kOk:
      return LONGHAUL_CUDA_OK;
    case CoderResult::kNotFinite:
      return Failed("a value is not finite", error, size, LONGHAUL_CUDA_NOT_FINITE);
    case CoderResult::kDamaged:
      return Failed("not a valid encoding", error, size, LONGHAUL_CUDA_DAMAGED);
    case CoderResult::kDeviceError:
      break;
  }
  return Failed(fragment.engine.error().c_str(), error, size, LONGHAUL_CUDA_DEVICE);
}

int Judge(cudaError_t result, char* error, uint64_t size) {
  if (result == cudaSuccess) return LONGHAUL_CUDA_OK;
  return Failed(ErrorText(result), error, size, LONGHAUL_CUDA_DEVICE);
}

int Done(bool good) { return good ? LONGHAUL_CUDA_OK : LONGHAUL_CUDA_DEVICE; }

int DeviceMemory(int32_t device, uint64_t* free_bytes, uint64_t* total_bytes, char* error,
                 uint64_t size) {
  size_t free = 0, total = 0;
  cudaError_t result = cudaSetDevice(device);
  if (result == cudaSuccess) result = cudaMemGetInfo(&free, &total);
  *free_bytes = free;
  *total_bytes = total;
  return Judge(result, error, size);
}

int MakeMemory(int32_t device, int32_t pinned, uint64_t bytes, void** memory, char* error,
               uint64_t size) {
  cudaError_t result = cudaSetDevice(device);
  if (result == cudaSuccess) {
    result = pinned != 0 ? cudaMallocHost(memory, bytes) : cudaMalloc(memory, bytes);
  }
  return Judge(result, error, size);
}

void FreeMemory(int32_t device, int32_t pinned, void* memory) {
  cudaSetDevice(device);
  pinned != 0 ? cudaFreeHost(memory) : cudaFree(memory);
}

// A copy between two places of the device may be under way when cudaMemcpy returns.
int CopyMemory(int32_t device, void* to, const void* from, uint64_t bytes, char* error,
               uint64_t size) {
  cudaError_t result = cudaSetDevice(device);
  if (result == cudaSuccess) result = cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
  if (result == cudaSuccess) result = cudaDeviceSynchronize();
  return Judge(result, error, size);
}

int Make(const LonghaulFragmentOptions* o, LonghaulFragment** out, char* error, uint64_t size) {
  using Coder = FragmentCoder<DeviceEngine>;
  Coder::Options options;
  options.codec = CodecSpec(static_cast<CodecId>(o->codec), o->bits_milli);
  options.elements = o->elements;
  options.chunk_elements = o->chunk_elements;
  uint64_t next = 0;
  for (uint64_t i = 0; i < o->tensor_count; ++i) {
    const LonghaulTensor& t = o->tensors[i];
    if (t.offset != next || t.count == 0 || t.tensor_class > 2) {
      return Failed("tensors with gaps", error, size, LONGHAUL_CUDA_BAD_INPUT);
    }
    next += t.count;
    options.tensors.push_back({t.offset, t.count, static_cast<TensorClass>(t.tensor_class), t.row});
  }
  if (!Coder::Knows(options.codec.id) || o->elements == 0 || o->chunk_elements == 0 ||
      o->chunk_elements > kMostChunkElements || o->chunk_elements % kBlockValues != 0 ||
      (o->tensor_count != 0 && next < o->elements)) {
    return Failed("a codec, a size or a layout that there is no kernel for", error, size,
                  LONGHAUL_CUDA_BAD_INPUT);
  }
  auto made = std::make_unique<LonghaulFragment>(o->device, std::move(options), o->residual_decay);
  if (!made->fragment.ok()) {
    return Failed(made->engine.error().c_str(), error, size, LONGHAUL_CUDA_DEVICE);
  }
  *out = made.release();
  return LONGHAUL_CUDA_OK;
}

int Encode(LonghaulFragment* f, LonghaulCode* code, char* error, uint64_t size) {
  const int result = ResultOf(f->fragment.Encode(f->code), *f, error, size);
  *code = {f->code.bytes.data(), f->code.bytes.size(), f->code.sizes.data(), f->code.sizes.size()};
  return result;
}

int Included(LonghaulFragment* f, const LonghaulCode* code, char* error, uint64_t size) {
  return ResultOf(f->fragment.Included({code->bytes, code->size}, {code->sizes, code->chunks}), *f,
                  error, size);
}

int Accumulate(LonghaulFragment* f, const LonghaulCode* code, uint32_t weight, uint64_t* sum,
               char* error, uint64_t size) {
  return ResultOf(
      f->fragment.Accumulate({code->bytes, code->size}, {code->sizes, code->chunks}, weight, sum),
      *f, error, size);
}

}  // namespace

void CopyText(const char* text, char* out, uint64_t size) {
  if (size == 0) return;
  const size_t n = std::min<size_t>(std::strlen(text), size - 1);
  std::memcpy(out, text, n);
  out[n] = 0;
}

void AddFragments(LonghaulCudaPlugin& table) {
  table.device_memory = DeviceMemory;
  table.memory_make = MakeMemory;
  table.memory_free = FreeMemory;
  table.memory_copy = CopyMemory;
  table.fragment_make = [](const LonghaulFragmentOptions* o, LonghaulFragment** out, char* error,
                           uint64_t size) -> int {
    try {
      return Make(o, out, error, size);
    } catch (const std::bad_alloc&) {
      return Failed("out of host memory", error, size, LONGHAUL_CUDA_DEVICE);
    }
  };
  table.fragment_free = [](LonghaulFragment* f) { delete f; };
  table.fragment_write_base = [](LonghaulFragment* f, uint64_t at, const float* values,
                                 uint64_t n) { return Done(f->fragment.WriteBase(at, values, n)); };
  table.fragment_write_residual = [](LonghaulFragment* f, uint64_t at, const float* values,
                                     uint64_t n) {
    return Done(f->fragment.WriteResidual(at, values, n));
  };
  table.fragment_read_residual = [](LonghaulFragment* f, uint64_t at, float* values, uint64_t n) {
    return Done(f->fragment.ReadResidual(at, values, n));
  };
  table.fragment_read_sent = [](LonghaulFragment* f, uint64_t at, float* values, uint64_t n) {
    return Done(f->fragment.ReadSent(at, values, n));
  };
  table.fragment_collect = [](LonghaulFragment* f, uint64_t at, const float* theta, uint64_t n) {
    return Done(f->engine.Synchronise() && f->fragment.Collect(at, theta, n) &&
                f->engine.Synchronise());
  };
  table.fragment_encode = [](LonghaulFragment* f, LonghaulCode* code, char* error,
                             uint64_t size) -> int {
    try {
      return Encode(f, code, error, size);
    } catch (const std::bad_alloc&) {
      return Failed("out of host memory", error, size, LONGHAUL_CUDA_DEVICE);
    }
  };
  table.fragment_included = Included;
  table.fragment_accumulate = Accumulate;
  table.fragment_crossed = [](const LonghaulFragment* f) { return f->engine.crossed(); };
}

}  // namespace longhaul::cuda
