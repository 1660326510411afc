#include "wan/sim/event_queue.h"

#include <gtest/gtest.h>

namespace longhaul::sim {
namespace {

TEST(EventQueue, RunsInOrderOfTimeThenOfAsking) {
  EventQueue queue;
  std::string order;
  queue.After(Seconds(2), [&] { order += 'c'; });
  queue.After(Seconds(1), [&] {
    order += 'a';
    queue.After(Duration(0), [&] { order += 'x'; });
  });
  queue.After(Seconds(1), [&] { order += 'b'; });
  queue.RunUntil(Timestamp{Seconds(5)}, [] { return false; });
  EXPECT_EQ(order, "abxc");
  EXPECT_EQ(queue.now(), Timestamp{Seconds(5)});
}

TEST(EventQueue, StopsWhenToldTo) {
  EventQueue queue;
  int ran = 0;
  for (int i = 0; i < 10; ++i) queue.After(Seconds(i), [&] { ++ran; });
  queue.RunUntil(Timestamp{Seconds(20)}, [&] { return ran == 3; });
  EXPECT_EQ(ran, 3);
  EXPECT_EQ(queue.now(), Timestamp{Seconds(2)});
}

}  // namespace
}  // namespace longhaul::sim
