// The readers behind OpenRecords.
#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"
#include "data/inputs.h"

namespace longhaul {
namespace {

constexpr uint64_t kMaxMetadataBytes = 1 << 16;
constexpr size_t kReadBytes = 1 << 20;

// Bytes of a file from a place on.
class Bytes {
 public:
  absl::Status Open(const std::string& path, uint64_t offset) {
    path_ = path;
    file_.open(path, std::ios::binary);
    file_.seekg(static_cast<std::streamoff>(offset));
    return file_ ? absl::OkStatus() : absl::UnavailableError("data: cannot read " + path);
  }
  // Appends up to `size` bytes; fewer at the end of the file.
  absl::StatusOr<size_t> Append(size_t size, std::string& out) {
    const size_t before = out.size();
    out.resize(before + size);
    file_.read(out.data() + before, static_cast<std::streamsize>(size));
    const auto read = static_cast<size_t>(file_.gcount());
    out.resize(before + read);
    if (file_.bad()) return absl::UnavailableError("data: cannot read " + path_);
    return read;
  }
  bool AtEnd() { return file_.peek() == std::ifstream::traits_type::eof(); }

 private:
  std::string path_;
  std::ifstream file_;
};

class TextReader : public RecordReader {
 public:
  TextReader(Bytes bytes, const Tokenizer& tokenizer, uint64_t offset)
      : bytes_(std::move(bytes)), tokenizer_(tokenizer), offset_(offset) {}

  absl::StatusOr<bool> Next(Record& record) override {
    if (rest_.size() < kPieceBytes) {
      ASSIGN_OR_RETURN(const size_t read, bytes_.Append(kPieceBytes - rest_.size(), rest_));
      (void)read;
    }
    if (rest_.empty()) return false;
    const bool last = bytes_.AtEnd();
    const size_t size = last ? rest_.size() : Cut(rest_);
    record = {.offset = offset_, .end = offset_ + size, .ends_document = last};
    record.text.assign(rest_, 0, size);
    rest_.erase(0, size);
    offset_ = record.end;
    return true;
  }

 private:
  // Where nothing is safe, after the last complete character: 1 MiB without a space or a line end
  // is not running text.
  size_t Cut(const std::string& text) const {
    if (const size_t safe = tokenizer_.SafeCut(text)) return safe;
    size_t at = text.size() - 1;
    while (at > text.size() - 4 && (text[at] & 0xC0) == 0x80) --at;
    return at;
  }

  Bytes bytes_;
  const Tokenizer& tokenizer_;
  uint64_t offset_;
  std::string rest_;
};

class JsonlReader : public RecordReader {
 public:
  JsonlReader(Bytes bytes, std::string field, uint64_t offset)
      : bytes_(std::move(bytes)), field_(std::move(field)), offset_(offset) {}

  absl::StatusOr<bool> Next(Record& record) override {
    while (true) {
      std::string line;
      bool too_long = false;
      ASSIGN_OR_RETURN(const uint64_t size, NextLine(line, too_long));
      if (size == 0) return false;
      record = {.offset = offset_, .end = offset_ + size, .ends_document = true};
      offset_ = record.end;
      if (too_long) {
        record.problem = absl::StrCat("a line of ", size, " bytes, more than ", kMaxLineBytes);
        return true;
      }
      if (line.find_first_not_of(" \t\r\n") == std::string::npos) continue;
      Parse(line, record);
      return true;
    }
  }

 private:
  // The size of the line with its end, 0 at the end of the file. A line over the limit is read past
  // without being kept.
  absl::StatusOr<uint64_t> NextLine(std::string& line, bool& too_long) {
    uint64_t size = 0;
    while (true) {
      const size_t end = buffer_.find('\n', at_);
      const size_t stop = end == std::string::npos ? buffer_.size() : end + 1;
      size += stop - at_;
      too_long = size > kMaxLineBytes;
      if (too_long) {
        line.clear();
      } else {
        line.append(buffer_, at_, stop - at_);
      }
      at_ = stop;
      if (end != std::string::npos) return size;
      buffer_.clear();
      at_ = 0;
      ASSIGN_OR_RETURN(const size_t read, bytes_.Append(kReadBytes, buffer_));
      if (read == 0) return size;
    }
  }

  void Parse(std::string& line, Record& record) {
    line.reserve(line.size() + simdjson::SIMDJSON_PADDING);
    simdjson::dom::element root;
    const auto error =
        parser_.parse(line.data(), line.size(), /*realloc_if_needed=*/false).get(root);
    std::string_view text;
    if (error) {
      record.problem = absl::StrCat("not JSON: ", simdjson::error_message(error));
    } else if (root[field_].get(text)) {
      record.problem = "no text in field \"" + field_ + "\"";
    } else {
      record.text.assign(text);
    }
  }

  Bytes bytes_;
  const std::string field_;
  uint64_t offset_;
  std::string buffer_;
  size_t at_ = 0;
  simdjson::dom::parser parser_;
};

class TokenReader : public RecordReader {
 public:
  TokenReader(Bytes bytes, const TokenFileShape& shape, uint64_t offset)
      : bytes_(std::move(bytes)), shape_(shape), offset_(offset) {}

  absl::StatusOr<bool> Next(Record& record) override {
    std::string raw;
    ASSIGN_OR_RETURN(const size_t read, bytes_.Append(kTokensPerRecord * shape_.token_bytes, raw));
    if (read == 0) return false;
    if (read % shape_.token_bytes != 0) {
      return absl::UnavailableError("data: a token file changed while it was read");
    }
    record = {.offset = offset_, .end = offset_ + read};
    record.tokens.resize(read / shape_.token_bytes);
    for (size_t i = 0; i < record.tokens.size(); ++i) {
      std::memcpy(&record.tokens[i], raw.data() + i * shape_.token_bytes, shape_.token_bytes);
    }
    offset_ = record.end;
    return true;
  }

 private:
  Bytes bytes_;
  const TokenFileShape shape_;
  uint64_t offset_;
};

// A file that may be absent: "" then.
absl::StatusOr<std::string> ReadBeside(const std::string& path, uint64_t max_bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return std::string();
  const auto size = static_cast<uint64_t>(file.tellg());
  if (size > max_bytes) return absl::InvalidArgumentError("data: " + path + " is too large");
  std::string text(size, '\0');
  file.seekg(0);
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (!file) return absl::UnavailableError("data: cannot read " + path);
  return text;
}

absl::StatusOr<TokenFileShape> ShapeOf(const InputFile& file) {
  if (file.format == InputFormat::kDatatrove) {
    ASSIGN_OR_RETURN(const std::string metadata,
                     ReadBeside(file.path + ".metadata", kMaxMetadataBytes));
    ASSIGN_OR_RETURN(const TokenFileShape shape, ParseDatatroveShape(metadata, file.bytes));
    // A document has at least one token.
    ASSIGN_OR_RETURN(const std::string index, ReadBeside(file.path + ".index", shape.tokens * 8));
    RETURN_IF_ERROR(CheckDatatroveIndex(AsBytes(index), shape.tokens));
    return shape;
  }
  Bytes bytes;
  RETURN_IF_ERROR(bytes.Open(file.path, 0));
  std::string beginning;
  ASSIGN_OR_RETURN(const size_t read, bytes.Append(12, beginning));
  (void)read;
  return ParseBinShape(AsBytes(beginning), file.bytes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RecordReader>> OpenRecords(const InputFile& file,
                                                          const ReadOptions& options,
                                                          uint64_t offset) {
  Bytes bytes;
  if (file.format == InputFormat::kText || file.format == InputFormat::kJsonl) {
    RETURN_IF_ERROR(bytes.Open(file.path, offset));
    if (file.format == InputFormat::kText) {
      LONGHAUL_CHECK(options.tokenizer != nullptr, "text needs a tokenizer");
      return std::make_unique<TextReader>(std::move(bytes), *options.tokenizer, offset);
    }
    return std::make_unique<JsonlReader>(std::move(bytes), options.json_field, offset);
  }
  auto shape = ShapeOf(file);
  if (!shape.ok()) {
    return absl::Status(shape.status().code(),
                        absl::StrCat(file.path, ": ", shape.status().message()));
  }
  offset = std::max(offset, shape->data_offset);
  RETURN_IF_ERROR(bytes.Open(file.path, offset));
  return std::make_unique<TokenReader>(std::move(bytes), *shape, offset);
}

}  // namespace longhaul
