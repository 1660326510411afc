// RETURN_IF_ERROR(expr), ASSIGN_OR_RETURN(auto x, expr). Debian's Abseil has no such macros.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define LONGHAUL_CONCAT_(a, b) a##b
#define LONGHAUL_CONCAT(a, b) LONGHAUL_CONCAT_(a, b)

#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_(LONGHAUL_CONCAT(status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_(result, lhs, expr) \
  auto result = (expr);                      \
  if (!result.ok()) return result.status();  \
  lhs = std::move(result).value()
