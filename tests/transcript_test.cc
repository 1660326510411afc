// Plays every transcript below tests/transcripts/ and compares the effects.
//
//   transcript_test              every file must read as it is
//   transcript_test --rewrite    writes the effects as they are now; read the difference before you
//                                commit it
#include "tests/transcript.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/transcript_coordinator.h"
#include "tests/transcript_worker.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

std::string ReadText(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

template <class Script>
std::string PlayWith(const std::string& text) {
  Script script;
  return Play(text, [&script](const std::string& command) { return script.Run(command); });
}

class TranscriptTest : public testing::Test {
 public:
  TranscriptTest(fs::path path, bool rewrite) : path_(std::move(path)), rewrite_(rewrite) {}

  void TestBody() override {
    const std::string expected = ReadText(path_);
    const bool coordinator = path_.parent_path().filename() == "coordinator";
    const std::string actual =
        coordinator ? PlayWith<CoordinatorScript>(expected) : PlayWith<WorkerScript>(expected);
    EXPECT_EQ(actual.find(kNotUnderstood), std::string::npos) << actual;
    if (!rewrite_) {
      EXPECT_EQ(actual, expected);
    } else if (actual != expected) {
      std::ofstream(path_, std::ios::binary) << actual;
      std::printf("rewritten: %s\n", path_.c_str());
    }
  }

 private:
  const fs::path path_;
  const bool rewrite_;
};

std::vector<fs::path> Transcripts(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  return paths;
}

TEST(TranscriptPlayer, AChangedEffectAndAWordThatNobodyKnowsAreSeen) {
  const std::string text = "run samples 10 min_workers=1\n  record of another run\nfly away\n";
  const std::string played = PlayWith<CoordinatorScript>(text);
  EXPECT_EQ(played,
            "run samples 10 min_workers=1\n"
            "  record run started, 10 positions, 1 fragments\n"
            "fly away\n  NOT UNDERSTOOD\n");
}

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool rewrite = argc > 1 && std::string(argv[1]) == "--rewrite";
  const char* source = std::getenv("LONGHAUL_SOURCE_DIR");
  const fs::path folder = fs::path(source ? source : ".") / "tests" / "transcripts";
  for (const fs::path& path : Transcripts(folder)) {
    const std::string name = fs::relative(path, folder).replace_extension("").string();
    testing::RegisterTest(
        "Transcripts", name.c_str(), nullptr, nullptr, path.c_str(), __LINE__,
        [path, rewrite]() -> testing::Test* { return new TranscriptTest(path, rewrite); });
  }
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) { return longhaul::Main(argc, argv); }
