#include "data/inputs.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "data/manifest.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

absl::Status Bad(const std::string& reason) {
  return absl::InvalidArgumentError("data: " + reason);
}

bool IsDomainName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxDomainNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || c == '.';
         });
}

// "web=crawl/" -> (web, crawl/). A path may hold "=" itself: what is before it must be a name then.
std::pair<std::string, std::string> SplitArgument(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos || !IsDomainName(argument.substr(0, equals))) {
    return {"default", argument};
  }
  return {argument.substr(0, equals), argument.substr(equals + 1)};
}

bool Accompanies(const std::string& name) {
  return absl::EndsWith(name, ".ds.index") || absl::EndsWith(name, ".ds.metadata") ||
         absl::EndsWith(name, ".ds.loss");
}

absl::Status ListFolder(const std::string& folder, std::vector<std::string>& files) {
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error), end;
  for (; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (name.starts_with('.')) {
      if (it->is_directory(ignored)) it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file(ignored) || Accompanies(name)) continue;
    files.push_back(it->path().generic_string());
    if (files.size() > kMaxInputs) return Bad("too many files below " + folder);
  }
  return error ? absl::UnavailableError("data: " + folder + ": " + error.message())
               : absl::OkStatus();
}

absl::StatusOr<InputFile> Describe(const std::string& domain, const std::string& path,
                                   std::optional<InputFormat> format) {
  std::error_code error;
  InputFile file{.domain = domain, .path = path};
  file.format = format ? *format : InputFormatOf(path);
  file.bytes = fs::file_size(path, error);
  if (error) return absl::UnavailableError("data: " + path + ": " + error.message());
  const auto modified = fs::last_write_time(path, error);
  if (error) return absl::UnavailableError("data: " + path + ": " + error.message());
  file.modified_ns = modified.time_since_epoch().count();
  return file;
}

}  // namespace

std::optional<InputFormat> InputFormatByName(std::string_view name) {
  if (name == "text") return InputFormat::kText;
  if (name == "jsonl") return InputFormat::kJsonl;
  if (name == "bin") return InputFormat::kBin;
  if (name == "ds") return InputFormat::kDatatrove;
  return std::nullopt;
}

InputFormat InputFormatOf(const std::string& path) {
  const std::string ending = fs::path(path).extension().string();
  if (ending == ".jsonl" || ending == ".ndjson") return InputFormat::kJsonl;
  if (ending == ".bin") return InputFormat::kBin;
  if (ending == ".ds") return InputFormat::kDatatrove;
  return InputFormat::kText;
}

absl::StatusOr<std::vector<InputFile>> ListInputs(const std::vector<std::string>& arguments,
                                                  std::optional<InputFormat> format) {
  std::vector<InputFile> inputs;
  for (const std::string& argument : arguments) {
    const auto [domain, path] = SplitArgument(argument);
    std::error_code error;
    std::vector<std::string> files = {path};
    if (fs::is_directory(path, error)) {
      files.clear();
      RETURN_IF_ERROR(ListFolder(path, files));
    } else if (!fs::exists(path, error)) {
      return absl::NotFoundError("data: no file or folder " + path);
    } else if (!fs::is_regular_file(path, error)) {
      return Bad(path + " is not a regular file");
    }
    for (const std::string& file : files) {
      ASSIGN_OR_RETURN(InputFile input, Describe(domain, file, format));
      inputs.push_back(std::move(input));
    }
  }
  std::sort(inputs.begin(), inputs.end(), [](const InputFile& a, const InputFile& b) {
    return std::tie(a.domain, a.path) < std::tie(b.domain, b.path);
  });
  std::set<std::string> paths;
  for (const InputFile& input : inputs) {
    if (!paths.insert(fs::path(input.path).lexically_normal().string()).second) {
      return Bad(input.path + " is named twice");
    }
  }
  if (inputs.empty()) return Bad("no input files");
  return inputs;
}

// ---- token files ----

absl::StatusOr<TokenFileShape> ParseBinShape(ByteSpan beginning, uint64_t file_bytes) {
  // Programs after nanoGPT write 256 numbers of 32 bits first: a magic, a version, the tokens.
  constexpr uint32_t kMagic = 20240520;
  constexpr uint64_t kHeaderBytes = 1024;
  if (file_bytes == 0) return Bad("the token file is empty");
  ByteReader r(beginning);
  const uint32_t magic = r.U32(), version = r.U32(), tokens = r.U32();
  if (r.ok() && magic == kMagic) {
    if (version != 1) return Bad(absl::StrCat("a token file of version ", version, ", not 1"));
    if (file_bytes != kHeaderBytes + uint64_t{2} * tokens) {
      return Bad(
          absl::StrCat("the token file's header says ", tokens, " tokens, its size does not"));
    }
    return TokenFileShape{kHeaderBytes, 2, tokens};
  }
  if (file_bytes % 2 != 0) {
    return Bad(absl::StrCat("the token file has ", file_bytes,
                            " bytes, an odd number: not 16-bit tokens"));
  }
  return TokenFileShape{0, 2, file_bytes / 2};
}

absl::StatusOr<TokenFileShape> ParseDatatroveShape(std::string_view metadata, uint64_t file_bytes) {
  // Lines: tokenizer's name, from later versions on "name|bytes per token"; tokens; for people.
  TokenFileShape shape{0, 2, 0};
  const std::string_view first = metadata.substr(0, metadata.find('\n'));
  if (const size_t bar = first.rfind('|'); bar != std::string_view::npos) {
    const std::string_view width = first.substr(bar + 1);
    if (width != "2" && width != "4") return Bad("the .ds.metadata names tokens of another width");
    shape.token_bytes = width == "4" ? 4 : 2;
  }
  if (file_bytes == 0 || file_bytes % shape.token_bytes != 0) {
    return Bad(
        absl::StrCat("the .ds file has ", file_bytes, " bytes, not tokens of ", shape.token_bytes));
  }
  shape.tokens = file_bytes / shape.token_bytes;
  if (first.size() == metadata.size()) return shape;
  std::string_view count = metadata.substr(first.size() + 1);
  count = count.substr(0, count.find('\n'));
  uint64_t said = 0;
  for (const char c : count) {
    if (c < '0' || c > '9' || said > file_bytes) return Bad("the .ds.metadata has no token count");
    said = said * 10 + static_cast<uint64_t>(c - '0');
  }
  if (said != shape.tokens) {
    return Bad(
        absl::StrCat("the .ds file has ", shape.tokens, " tokens, its metadata says ", said));
  }
  return shape;
}

absl::Status CheckDatatroveIndex(ByteSpan index, uint64_t tokens) {
  if (index.size() % 8 != 0) return Bad("the .ds.index is not a list of 64-bit numbers");
  ByteReader r(index);
  uint64_t last = 0;
  for (size_t i = 0; i < index.size() / 8; ++i) {
    const uint64_t end = r.U64();
    if (end < last) return Bad("the .ds.index goes backwards");
    last = end;
  }
  return last == tokens || index.empty() ? absl::OkStatus()
                                         : Bad("the .ds.index belongs to another file");
}

}  // namespace longhaul
