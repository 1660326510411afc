#include "common/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <vector>

namespace longhaul {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// %* in a pattern: the message as the inside of a JSON string.
class JsonText : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    static constexpr char kDigits[] = "0123456789abcdef";
    for (char c : message.payload) {
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (static_cast<unsigned char>(c) < 0x20) {
        for (char e : {'\\', 'u', '0', '0', kDigits[c >> 4], kDigits[c & 15]}) out.push_back(e);
      } else {
        out.push_back(c);
      }
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonText>();
  }
};

std::shared_ptr<spdlog::logger> MakeLogger(LogLevel level, const std::string& program,
                                           const std::string& json_file) {
  auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  console->set_pattern("%H:%M:%S " + program + " %^%l%$ %v");
  std::vector<spdlog::sink_ptr> sinks = {console};
  if (!json_file.empty()) {
    auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(json_file);
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<JsonText>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","text":"%*"})");
    file->set_formatter(std::move(formatter));
    sinks.push_back(file);
  }
  auto logger = std::make_shared<spdlog::logger>(program, sinks.begin(), sinks.end());
  logger->set_level(ToSpdlog(level));
  logger->flush_on(spdlog::level::info);
  return logger;
}

std::shared_ptr<spdlog::logger>& TheLogger() {
  static std::shared_ptr<spdlog::logger> logger = MakeLogger(LogLevel::kWarning, "longhaul", "");
  return logger;
}

}  // namespace

void StartLogging(LogLevel level, const std::string& program, const std::string& json_file) {
  TheLogger() = MakeLogger(level, program, json_file);
}

void Log(LogLevel level, const std::string& text) { TheLogger()->log(ToSpdlog(level), "{}", text); }

}  // namespace longhaul
