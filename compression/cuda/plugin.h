/* The C interface of liblonghaul_cuda.so, the one library that needs CUDA and NCCL. Programs load
 * it when it is there (worker/site/plugin.h); nothing else links it.
 *
 * One symbol, longhaul_cuda_plugin, gives a table of functions. Its first two members never change:
 * whoever finds another `abi` or `size` must not use the rest. Functions return 0, or another
 * LonghaulCudaResult with a sentence in `error` (`error_size` bytes, ended by zero); they throw
 * nothing. Pointers said to be on the device are the caller's; a fragment or a group belongs to one
 * thread, but for group_abort.
 */
#pragma once

#include <cstdint>

#define LONGHAUL_CUDA_ABI 1u
#define LONGHAUL_CUDA_SYMBOL "longhaul_cuda_plugin"
#define LONGHAUL_GROUP_ID_BYTES 128

#ifdef __cplusplus
extern "C" {
#endif

enum LonghaulCudaResult {
  LONGHAUL_CUDA_OK = 0,
  LONGHAUL_CUDA_NOT_FINITE = 1, /* a value to code is not finite */
  LONGHAUL_CUDA_DAMAGED = 2,    /* bytes that no encoder writes; nothing was changed */
  LONGHAUL_CUDA_BAD_INPUT = 3,
  LONGHAUL_CUDA_DEVICE = 4,    /* out of memory, or the device failed */
  LONGHAUL_CUDA_RANK_LOST = 5, /* groups: a rank is gone or stuck; shrink */
};

typedef struct LonghaulFragment LonghaulFragment;
typedef struct LonghaulGroup LonghaulGroup;

typedef struct LonghaulTensor { /* TensorSpan of compression/codec.h */
  uint64_t offset, count, row;
  uint64_t tensor_class;
} LonghaulTensor;

typedef struct LonghaulFragmentOptions {
  int32_t device;
  uint32_t codec, bits_milli; /* CodecSpec */
  uint32_t chunk_elements;
  uint64_t elements;
  const LonghaulTensor* tensors; /* may be null: one matrix */
  uint64_t tensor_count;
  float residual_decay; /* negative: no error feedback */
} LonghaulFragmentOptions;

typedef struct LonghaulCode { /* chunks, one after the other */
  const uint8_t* bytes;
  uint64_t size;
  const uint32_t* sizes;
  uint64_t chunks;
} LonghaulCode;

typedef struct LonghaulCudaPlugin {
  uint32_t abi;  /* LONGHAUL_CUDA_ABI */
  uint32_t size; /* of this table in bytes */

  /* What was compiled, and what is there: versions of CUDA and NCCL, devices. Fails with
   * LONGHAUL_CUDA_DEVICE when NCCL's library is older than, or another major version than, the
   * header. */
  int (*describe)(char* text, uint64_t text_size, char* error, uint64_t error_size);
  int (*device_memory)(int32_t device, uint64_t* free_bytes, uint64_t* total_bytes, char* error,
                       uint64_t error_size);
  /* Of the device; or of the host, `pinned`, so that copies run at full speed. */
  int (*memory_make)(int32_t device, int32_t pinned, uint64_t bytes, void** memory, char* error,
                     uint64_t error_size);
  void (*memory_free)(int32_t device, int32_t pinned, void* memory);
  /* In any direction; done when it returns. */
  int (*memory_copy)(int32_t device, void* to, const void* from, uint64_t bytes, char* error,
                     uint64_t error_size);

  /* ---- fragments (compression/cuda/device_fragment.h) ---- */
  int (*fragment_make)(const LonghaulFragmentOptions* options, LonghaulFragment** fragment,
                       char* error, uint64_t error_size);
  void (*fragment_free)(LonghaulFragment* fragment);
  int (*fragment_write_base)(LonghaulFragment* fragment, uint64_t at, const float* values,
                             uint64_t n);
  int (*fragment_write_residual)(LonghaulFragment* fragment, uint64_t at, const float* values,
                                 uint64_t n);
  int (*fragment_read_residual)(LonghaulFragment* fragment, uint64_t at, float* values, uint64_t n);
  int (*fragment_read_sent)(LonghaulFragment* fragment, uint64_t at, float* values, uint64_t n);
  /* `theta`: device memory that nothing writes to now */
  int (*fragment_collect)(LonghaulFragment* fragment, uint64_t at, const float* theta, uint64_t n);
  /* the code lives until the fragment's next call */
  int (*fragment_encode)(LonghaulFragment* fragment, LonghaulCode* code, char* error,
                         uint64_t error_size);
  int (*fragment_included)(LonghaulFragment* fragment, const LonghaulCode* code, char* error,
                           uint64_t error_size);
  /* `sum`: as many uint64 in device memory as the fragment has elements */
  int (*fragment_accumulate)(LonghaulFragment* fragment, const LonghaulCode* code, uint32_t weight,
                             uint64_t* sum, char* error, uint64_t error_size);

  /* Bytes copied between host and device for it so far. */
  uint64_t (*fragment_crossed)(const LonghaulFragment* fragment);

  /* ---- groups (NCCL) ---- */
  /* For one rank, which gives it to all others. */
  int (*group_id)(uint8_t id[LONGHAUL_GROUP_ID_BYTES], char* error, uint64_t error_size);
  int (*group_make)(const uint8_t id[LONGHAUL_GROUP_ID_BYTES], uint32_t rank, uint32_t size,
                    int32_t device, uint64_t deadline_ms, LonghaulGroup** group, char* error,
                    uint64_t error_size);
  void (*group_free)(LonghaulGroup* group);
  /* `values`: device memory. Starts once what `stream` (a cudaStream_t; null: the default one) has
   * been given before is done. An error shows in group_wait. */
  void (*group_start_sum)(LonghaulGroup* group, float* values, uint64_t n, void* stream);
  int (*group_wait)(LonghaulGroup* group, char* error, uint64_t error_size);
  /* `living`: first ranks, ascending */
  int (*group_shrink)(LonghaulGroup* group, const uint32_t* living, uint32_t n, char* error,
                      uint64_t error_size);
  void (*group_abort)(LonghaulGroup* group); /* any thread */
} LonghaulCudaPlugin;

/* Never null. */
const LonghaulCudaPlugin* longhaul_cuda_plugin(void);

#ifdef __cplusplus
}
#endif
