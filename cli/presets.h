// Named synchronisation methods: `sync.preset`. Each is a file of cli/presets/, built into the
// programs; it holds keys of [train] and [sync] only, and every key that a run gives itself wins.
//
// Immutable; any thread.
#pragma once

#include <string>
#include <vector>

namespace longhaul {

inline constexpr char kNoPreset[] = "none";

struct SyncPreset {
  std::string name;
  std::string toml;
};

const std::vector<SyncPreset>& SyncPresets();  // by name
// kNoPreset, then the names.
std::vector<std::string> SyncPresetChoices();

}  // namespace longhaul
