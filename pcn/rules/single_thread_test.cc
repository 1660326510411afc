// Tensors of these tests are tiny, and some results are compared bit for bit: one thread.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace longhaul::pcn {
namespace {

class SingleThread : public testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(1); }
};

const testing::Environment* const kRegistered = testing::AddGlobalTestEnvironment(new SingleThread);

}  // namespace
}  // namespace longhaul::pcn
