#include "cli/worker_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<WorkerSettings> Parse(const std::string& toml, const WorkerFlags& flags = {}) {
  return ParseWorkerFile(toml, "worker.toml", flags, "/cfg", "/home/ann");
}
std::string ErrorOf(const std::string& toml, const WorkerFlags& flags = {}) {
  const auto settings = Parse(toml, flags);
  return settings.ok() ? "accepted" : std::string(settings.status().message());
}

TEST(WorkerFile, EmptyFileHasDefaults) {
  const auto settings = Parse("");
  ASSERT_TRUE(settings.ok());
  WorkerSettings expected;
  expected.identity = "/cfg/worker.key";
  EXPECT_EQ(*settings, expected);
}

TEST(WorkerFile, ReadsEveryKey) {
  const auto settings = Parse(
      "name = \"kitchen-pc\"\nidentity = \"~/k\"\ndata = [\"/srv/a\", \"~/b\"]\n[limits]\n"
      "up_mbit = 2.5\nthreads = 4\nmemory_gb = 8\ndisk_gb = 50\n");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->name, "kitchen-pc");
  EXPECT_EQ(settings->identity, "/home/ann/k");
  EXPECT_THAT(settings->data, ElementsAre("/srv/a", "/home/ann/b"));
  EXPECT_EQ(settings->up_mbit, 2.5);
  EXPECT_EQ(settings->threads, 4u);
  EXPECT_EQ(settings->memory_gb, 8);
  EXPECT_EQ(settings->disk_gb, 50);
}

TEST(WorkerFile, FlagsOverride) {
  WorkerFlags flags;
  flags.name = "other";
  flags.threads = 2;
  flags.data = {"~/d"};
  const auto settings = Parse("name = \"a\"\ndata = [\"/x\"]\n[limits]\nthreads = 8\n", flags);
  ASSERT_TRUE(settings.ok());
  EXPECT_EQ(settings->name, "other");
  EXPECT_EQ(settings->threads, 2u);
  EXPECT_THAT(settings->data, ElementsAre("/home/ann/d"));
}

TEST(WorkerFile, RefusesWithPlaceAndHint) {
  EXPECT_EQ(ErrorOf("\nnmae = \"x\"\n"),
            "worker.toml:2: unknown key \"nmae\"; did you mean \"name\"?");
  EXPECT_THAT(ErrorOf("threads = 4\n"), HasSubstr("belongs to [limits]"));
  EXPECT_THAT(ErrorOf("[limits]\nup_mbits = 4\n"), HasSubstr("did you mean \"up_mbit\"?"));
  EXPECT_THAT(ErrorOf("[limits]\nthreads = 1.5\n"), HasSubstr("worker.toml:2: limits.threads"));
  EXPECT_THAT(ErrorOf("[limits]\nup_mbit = \"fast\"\n"), HasSubstr("must be a number"));
  EXPECT_THAT(ErrorOf("[limits]\nup_mbit = -1\n"), HasSubstr("up_mbit = -1: must be"));
  EXPECT_THAT(ErrorOf("[limits]\nup_mbit = nan\n"), HasSubstr("up_mbit = nan"));
  EXPECT_THAT(ErrorOf("data = [1]\n"), HasSubstr("list of folders"));
  EXPECT_THAT(ErrorOf("data = \"/x\"\n"), HasSubstr("list of folders"));
  EXPECT_THAT(ErrorOf("limits = 1\n"), HasSubstr("[limits]"));
  EXPECT_THAT(ErrorOf("name = \n"), HasSubstr("worker.toml:1: not valid TOML"));
  WorkerFlags flags;
  flags.name = "a\nb";
  EXPECT_THAT(ErrorOf("", flags), HasSubstr("name"));
  flags = {};
  flags.memory_gb = std::numeric_limits<double>::infinity();
  EXPECT_THAT(ErrorOf("", flags), HasSubstr("memory_gb = inf"));
}

TEST(WorkerFile, OnlyTheDefaultFileMayBeAbsent) {
  EXPECT_TRUE(LoadWorkerFile("", {}, "/no/such", "").ok());
  EXPECT_EQ(LoadWorkerFile("/no/such/file", {}, "/no/such", "").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(WorkerConfigFolder("", "/home/ann"), "/home/ann/.config/longhaul");
  EXPECT_EQ(WorkerConfigFolder("/xdg", "/home/ann"), "/xdg/longhaul");
}

}  // namespace
}  // namespace longhaul
