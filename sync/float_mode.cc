#include "sync/float_mode.h"

namespace longhaul {

// The default environment of the C library: round to nearest, subnormals kept, no traps. On x86-64
// fesetenv writes MXCSR whole, flush-to-zero bits included.
ScopedFloatMode::ScopedFloatMode() {
  std::fegetenv(&saved_);
  std::fesetenv(FE_DFL_ENV);
}
ScopedFloatMode::~ScopedFloatMode() { std::fesetenv(&saved_); }

}  // namespace longhaul
