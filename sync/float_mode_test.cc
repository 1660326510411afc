#include "sync/float_mode.h"

#include <gtest/gtest.h>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace longhaul {
namespace {

TEST(FloatModeTest, RoundsToNearestAndRestores) {
  std::fesetround(FE_UPWARD);
  {
    ScopedFloatMode mode;
    EXPECT_EQ(std::fegetround(), FE_TONEAREST);
  }
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
}

#ifdef __SSE__
TEST(FloatModeTest, KeepsSubnormals) {
  constexpr unsigned kFlushBits = 0x8040;  // flush-to-zero and denormals-are-zero
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlushBits);
  volatile float tiny = 1e-38f;
  {
    ScopedFloatMode mode;
    EXPECT_EQ(_mm_getcsr() & kFlushBits, 0u);
    volatile float smaller = tiny / 16;
    EXPECT_GT(smaller, 0.0f);
  }
  EXPECT_EQ(_mm_getcsr() & kFlushBits, kFlushBits);
  _mm_setcsr(before);
}
#endif

}  // namespace
}  // namespace longhaul
