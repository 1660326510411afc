# Install rules: cmake --install and cpack (TGZ; DEB needs dpkg-dev). Components:
#   longhaul  the program, and the toy worker
#   worker    longhaul-worker with the LibTorch libraries that it needs, in the wheel's own layout below lib/longhaul
#   cuda      the CUDA plug-in, beside the worker's program; CUDA and NCCL come from the wheel set or from the toolkit
#   dev       libraries for outside programs: find_package(longhaul), then longhaul::compression
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(private_dir ${CMAKE_INSTALL_LIBDIR}/longhaul)
foreach(program longhaul longhaul-worker-toy)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME COMPONENT longhaul)
  endif()
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT longhaul)

if(TARGET longhaul-worker)
  file(RELATIVE_PATH from_bin /${CMAKE_INSTALL_BINDIR} /${private_dir})
  set_target_properties(longhaul-worker PROPERTIES INSTALL_RPATH "\$ORIGIN/${from_bin}/torch/lib")
  install(TARGETS longhaul-worker RUNTIME COMPONENT worker)
  file(GLOB torch_libraries ${LONGHAUL_TORCH_DIR}/lib/libtorch_cpu.so ${LONGHAUL_TORCH_DIR}/lib/libc10.so
       ${LONGHAUL_TORCH_DIR}/lib/libgomp*.so*)
  install(FILES ${torch_libraries} DESTINATION ${private_dir}/torch/lib COMPONENT worker)
  file(GLOB cuda_libraries ${LONGHAUL_TORCH_DIR}/../nvidia/cu13/lib/libcudart.so.*
       ${LONGHAUL_TORCH_DIR}/../nvidia/cu13/lib/libcupti.so.*)
  install(FILES ${cuda_libraries} DESTINATION ${private_dir}/nvidia/cu13/lib COMPONENT worker)
endif()

if(TARGET longhaul_cuda)
  file(RELATIVE_PATH from_bin /${CMAKE_INSTALL_BINDIR} /${private_dir})
  set_target_properties(longhaul_cuda PROPERTIES
                        INSTALL_RPATH "\$ORIGIN/${from_bin}/nvidia/cu13/lib;\$ORIGIN/${from_bin}/nvidia/nccl/lib")
  install(TARGETS longhaul_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT cuda)
endif()

# Libraries without dependencies only: no Abseil type may reach an installed header.
if(TARGET longhaul_compression)
  set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/longhaul)
  install(TARGETS longhaul_compression EXPORT longhaulTargets ARCHIVE COMPONENT dev)
  install(FILES ${PROJECT_SOURCE_DIR}/compression/codec.h
          DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/longhaul/compression COMPONENT dev)
  install(EXPORT longhaulTargets NAMESPACE longhaul:: FILE longhaulConfig.cmake DESTINATION ${config_dir} COMPONENT dev)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/longhaulConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/longhaulConfigVersion.cmake DESTINATION ${config_dir} COMPONENT dev)
endif()

set(CPACK_GENERATOR TGZ DEB)
set(CPACK_PACKAGE_NAME longhaul)
set(CPACK_PACKAGE_VENDOR "Longhaul")
set(CPACK_PACKAGE_CONTACT "Longhaul maintainers <maintainers@longhaul.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Train one model on many far-apart machines")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 0)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_LONGHAUL_PACKAGE_NAME longhaul)
set(CPACK_DEBIAN_WORKER_PACKAGE_NAME longhaul-worker)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME liblonghaul-dev)
set(CPACK_DEBIAN_CUDA_PACKAGE_NAME longhaul-cuda)
set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS longhaul-worker)  # CUDA and NCCL are not Debian's
# The dependencies of the programs are read from the binaries.
set(CPACK_DEBIAN_LONGHAUL_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_WORKER_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${LONGHAUL_TORCH_DIR}/lib ${LONGHAUL_TORCH_DIR}/../nvidia/cu13/lib)
include(CPack)
