#include "common/check.h"

#include <cstdio>
#include <cstdlib>

namespace longhaul {

void CheckFailed(const char* condition, const char* file, int line, const char* message) {
  std::fprintf(stderr, "longhaul: broken invariant at %s:%d: %s (%s)\n", file, line, message,
               condition);
  std::abort();
}

}  // namespace longhaul
