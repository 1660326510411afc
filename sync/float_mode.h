// For its lifetime the calling thread rounds to nearest even and keeps subnormal numbers, whatever
// libraries have set before; afterwards the old mode is back. Put one at the start of every
// computation whose bits must agree between machines.
#pragma once

#include <cfenv>

namespace longhaul {

class ScopedFloatMode {
 public:
  ScopedFloatMode();
  ~ScopedFloatMode();
  ScopedFloatMode(const ScopedFloatMode&) = delete;
  ScopedFloatMode& operator=(const ScopedFloatMode&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace longhaul
