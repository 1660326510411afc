// Logging: human lines on stderr, set up once in main. spdlog stays behind this header.
#pragma once

#include <string>

namespace longhaul {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Called once by main. `file` may be empty; otherwise every line also goes there as one JSON object
// per line.
void StartLogging(LogLevel level, const std::string& program, const std::string& json_file);
// Thread-safe. Before StartLogging only warnings and errors are shown.
void Log(LogLevel level, const std::string& text);
inline void LogInfo(const std::string& text) { Log(LogLevel::kInfo, text); }
inline void LogWarning(const std::string& text) { Log(LogLevel::kWarning, text); }
inline void LogError(const std::string& text) { Log(LogLevel::kError, text); }
inline void LogDebug(const std::string& text) { Log(LogLevel::kDebug, text); }

}  // namespace longhaul
