// Writes a small event file into the folder it is given: food for tools/check_events.py.
#include <cstdio>

#include "coordinator/tensorboard.h"

namespace longhaul {
namespace {

absl::Status WriteSample(const std::string& folder) {
  auto storage = OpenFileStorage(folder);
  if (!storage.ok()) return storage.status();
  auto writer = EventWriter::Create(**storage, "events", 1700000000);
  if (!writer.ok()) return writer.status();
  absl::Status status = absl::OkStatus();
  for (int step = 0; step < 300 && status.ok(); ++step) {
    status = (*writer)->AddScalar("loss/train", step, 5.0f / static_cast<float>(step + 1),
                                  1700000000.5 + step);
    if (status.ok())
      status = (*writer)->AddScalar("tokens", step, 1024.0f * step, 1700000001 + step);
  }
  return status;
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const absl::Status status = longhaul::WriteSample(argv[1]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
