// A child process that runs seeds and tells its parent each result. Its error output is kept, so
// that a broken invariant's message is known.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "wan/sim/fuzz.h"

namespace longhaul::sim {

class SeedProcess {
 public:
  // Runs `seeds` one after the other; those in `twice` a second time.
  static absl::StatusOr<std::unique_ptr<SeedProcess>> Start(const WorldOptions& options,
                                                            std::vector<uint64_t> seeds,
                                                            uint32_t rerun_one_in);
  ~SeedProcess();  // ends it

  struct Report {
    SeedResult result;
    bool reran = false;
    bool mismatch = false;  // the second run had another history
  };
  // To wait for with poll().
  int descriptor() const { return out_; }
  // What has come; call when the descriptor is readable. False: the process has ended.
  bool Read(std::vector<Report>& reports);
  // Seeds that it had not reported when it ended; the first one is the one it broke at.
  const std::vector<uint64_t>& unreported() const { return seeds_; }
  std::string LastWords();

 private:
  SeedProcess() = default;

  int pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  std::string buffer_;
  std::vector<uint64_t> seeds_;
};

}  // namespace longhaul::sim
