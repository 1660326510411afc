# Install rules: cmake --install and cpack.
