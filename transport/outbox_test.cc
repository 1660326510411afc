#include "transport/outbox.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

Outbox::Message Text(const std::string& text) {
  Outbox::Message out;
  out.emplace_back(std::string(text));
  return out;
}

TEST(OutboxTest, KeepsOrderAlsoAfterPuttingBack) {
  Outbox box(10, 1000);
  ASSERT_TRUE(box.Push("a", Text("1")));
  ASSERT_TRUE(box.Push("a", Text("2")));
  Outbox::Message message;
  ASSERT_TRUE(box.Take("a", &message));
  EXPECT_EQ(message[0].ToString(), "1");
  box.PutBack("a", std::move(message));
  for (const char* expected : {"1", "2"}) {
    ASSERT_TRUE(box.Take("a", &message));
    EXPECT_EQ(message[0].ToString(), expected);
  }
  EXPECT_FALSE(box.Take("a", &message));
  EXPECT_TRUE(box.empty());
}

TEST(OutboxTest, RouteLimitLeavesTheMessageAndOtherRoutesAlone) {
  Outbox box(2, 1000);
  ASSERT_TRUE(box.Push("a", Text("1")));
  ASSERT_TRUE(box.Push("a", Text("2")));
  Outbox::Message third = Text("3");
  EXPECT_FALSE(box.Push("a", std::move(third)));
  EXPECT_EQ(third[0].ToString(), "3");
  EXPECT_TRUE(box.Push("b", Text("1")));
  EXPECT_EQ(box.Routes(), (std::vector<std::string>{"a", "b"}));
}

TEST(OutboxTest, ByteLimitHoldsForAllRoutesTogether) {
  Outbox box(10, 100);
  ASSERT_TRUE(box.Push("a", Text(std::string(60, 'x'))));
  EXPECT_FALSE(box.Push("b", Text(std::string(41, 'x'))));
  EXPECT_TRUE(box.Push("b", Text(std::string(40, 'x'))));
  EXPECT_EQ(box.Forget("a"), 1u);
  EXPECT_EQ(box.Forget("a"), 0u);
  EXPECT_TRUE(box.Push("b", Text(std::string(60, 'x'))));
  EXPECT_EQ(box.Forget("b"), 2u);
  EXPECT_TRUE(box.Push("c", Text(std::string(500, 'x'))));  // alone: taken however long
}

TEST(OutboxTest, TellsOnceWhenThereIsRoomAgain) {
  Outbox box(4, 1000);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(box.Push("a", Text("x")));
  EXPECT_TRUE(box.TakeRoutesWithRoom().empty());
  EXPECT_FALSE(box.Push("a", Text("x")));
  Outbox::Message message;
  ASSERT_TRUE(box.Take("a", &message));
  EXPECT_TRUE(box.TakeRoutesWithRoom().empty());  // three of four are still there
  ASSERT_TRUE(box.Take("a", &message));
  EXPECT_EQ(box.TakeRoutesWithRoom(), std::vector<std::string>{"a"});
  EXPECT_TRUE(box.TakeRoutesWithRoom().empty());
}

}  // namespace
}  // namespace longhaul
