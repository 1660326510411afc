// Ctrl-C and SIGTERM as a flag that loops look at. The second signal ends the process at once.
#pragma once

#include <atomic>

namespace longhaul {
// Installs the handlers; call once, from main. SIGPIPE is ignored.
const std::atomic<bool>& StopFlag();
}  // namespace longhaul
