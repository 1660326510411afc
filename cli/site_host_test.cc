#include "cli/site_host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::HasSubstr;

TEST(SiteHosts, ALineIsAHostAndItsRanks) {
  const auto hosts = ParseSiteHosts("# our rack\nalpha 2\n\n  beta 8  # the large one\n");
  ASSERT_TRUE(hosts.ok()) << hosts.status();
  ASSERT_EQ(hosts->size(), 2u);
  EXPECT_EQ((*hosts)[1].host, "beta");
  EXPECT_EQ((*hosts)[1].ranks, 8u);
  for (const char* bad : {"", "alpha", "alpha 0", "alpha x", "alpha 2 3", "alpha 99999"}) {
    EXPECT_EQ(ParseSiteHosts(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_THAT(std::string(ParseSiteHosts("a 1\nb\n").status().message()), HasSubstr("line 2"));
}

TEST(SiteHosts, EachRankHasAGpuOfItsOwn) {
  EXPECT_EQ(DeviceOfRank("cuda", 3), "cuda:3");
  EXPECT_EQ(DeviceOfRank("cpu", 3), "cpu");
}

TEST(SiteHosts, FlagsAreChecked) {
  SiteFlags flags{.ranks = 1};
  auto start = [&] {
    return SiteHost::Start(flags, "/bin/true", {}, "cpu", ".", nullptr).status();
  };
  EXPECT_THAT(std::string(start().message()), HasSubstr("--site-ranks must be 2"));
  flags = {.ranks = 2, .deadline_seconds = 0};
  EXPECT_THAT(std::string(start().message()), HasSubstr("must be more than 0"));
  flags = {.ranks = 2, .hosts_file = "hosts"};
  EXPECT_THAT(std::string(start().message()), HasSubstr("needs --site-key"));
}

}  // namespace
}  // namespace longhaul
