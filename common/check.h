// LONGHAUL_CHECK(condition) << nothing: a broken invariant ends the process, in release builds too.
#pragma once

namespace longhaul {
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line,
                              const char* message);
}  // namespace longhaul

#define LONGHAUL_CHECK(condition, message) \
  ((condition) ? static_cast<void>(0)      \
               : ::longhaul::CheckFailed(#condition, __FILE__, __LINE__, message))
