# Imported targets for the pinned LibTorch wheel: longhaul::torch (libtorch_cpu + libc10 only). find_package(Torch) is not
# used: it insists on a CUDA toolkit and on libtorch_cuda.
if(NOT LONGHAUL_TORCH_DIR)
  if(DEFINED ENV{LONGHAUL_TORCH_DIR})
    set(LONGHAUL_TORCH_DIR "$ENV{LONGHAUL_TORCH_DIR}" CACHE PATH "" FORCE)
  else()
    set(LONGHAUL_TORCH_DIR "${PROJECT_SOURCE_DIR}/.longhaul/torch/torch" CACHE PATH "" FORCE)
  endif()
endif()
if(NOT EXISTS ${LONGHAUL_TORCH_DIR}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "LibTorch not found in ${LONGHAUL_TORCH_DIR}.\n"
                      "Run ./setup.sh, or set LONGHAUL_TORCH_DIR, or build without it: cmake --preset lite")
endif()
# A LibTorch with the old string ABI would fail only when it is linked, and without a word about the reason.
file(STRINGS ${LONGHAUL_TORCH_DIR}/lib/libc10.so longhaul_torch_new_abi REGEX "NSt7__cxx1112basic_string" LIMIT_COUNT 1)
if(NOT longhaul_torch_new_abi)
  message(FATAL_ERROR "The LibTorch in ${LONGHAUL_TORCH_DIR} was built with the old string ABI (_GLIBCXX_USE_CXX11_ABI=0).\n"
                      "Run ./setup.sh without LONGHAUL_TORCH_DIR to get one that fits.")
endif()

add_library(longhaul_torch INTERFACE)
add_library(longhaul::torch ALIAS longhaul_torch)
target_include_directories(longhaul_torch SYSTEM INTERFACE ${LONGHAUL_TORCH_DIR}/include
                           ${LONGHAUL_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(longhaul_torch INTERFACE ${LONGHAUL_TORCH_DIR}/lib/libtorch_cpu.so ${LONGHAUL_TORCH_DIR}/lib/libc10.so)
# CMake gives each program one rpath to torch/lib; the wheel finds its own neighbours by relative DT_RPATH. DT_RPATH for us too,
# so that LD_LIBRARY_PATH cannot bring in another LibTorch.
target_link_options(longhaul_torch INTERFACE -Wl,--disable-new-dtags)
