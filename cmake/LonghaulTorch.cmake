# Imported targets for the pinned LibTorch wheel: longhaul::torch (libtorch_cpu + libc10 only). find_package(Torch) is not
# used: it insists on a CUDA toolkit and on libtorch_cuda.
if(NOT LONGHAUL_TORCH_DIR)
  set(LONGHAUL_TORCH_DIR "${PROJECT_SOURCE_DIR}/.longhaul/torch/torch" CACHE PATH "" FORCE)
endif()
if(NOT EXISTS ${LONGHAUL_TORCH_DIR}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "LibTorch not found in ${LONGHAUL_TORCH_DIR}.\n"
                      "Run ./setup.sh, or set LONGHAUL_TORCH_DIR, or build without it: cmake --preset lite")
endif()
add_library(longhaul_torch INTERFACE)
add_library(longhaul::torch ALIAS longhaul_torch)
target_include_directories(longhaul_torch SYSTEM INTERFACE ${LONGHAUL_TORCH_DIR}/include
                           ${LONGHAUL_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(longhaul_torch INTERFACE ${LONGHAUL_TORCH_DIR}/lib/libtorch_cpu.so ${LONGHAUL_TORCH_DIR}/lib/libc10.so)
# One rpath to torch/lib; the wheel finds its own neighbours by relative DT_RPATH.
target_link_options(longhaul_torch INTERFACE -Wl,--disable-new-dtags,-rpath,${LONGHAUL_TORCH_DIR}/lib -Wl,--no-as-needed)
