// Ctrl-C and SIGTERM as a number that loops look at: how often the process was asked to stop.
#pragma once

#include <atomic>

namespace longhaul {
// Installs the handlers; call once, from main. `requests` are counted, one more ends the process at
// once. SIGPIPE is ignored.
const std::atomic<int>& StopCount(int requests = 1);
}  // namespace longhaul
