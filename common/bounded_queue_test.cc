#include "common/bounded_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace longhaul {
namespace {

TEST(BoundedQueue, SaysNoWhenFullAndKeepsOrder) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));
  EXPECT_FALSE(queue.TryPush(3));
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), 2);
  EXPECT_EQ(queue.PopFor(Duration(0)), std::nullopt);
}

TEST(BoundedQueue, CloseWakesReadersAndWritersAfterTheRestIsRead) {
  BoundedQueue<int> queue(1);
  ASSERT_TRUE(queue.Push(1));
  std::thread writer([&] { EXPECT_FALSE(queue.Push(2)); });
  queue.Close();
  writer.join();
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

}  // namespace
}  // namespace longhaul
