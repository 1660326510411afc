// What training data is made from: files in a sorted order, read as records of bounded size.
//
//   text   .txt and everything else: pieces of at most 1 MiB, cut where the tokenizer allows it
//   jsonl  .jsonl, .ndjson: a JSON object per line, its text in one field
//   bin    .bin: nanoGPT's 16-bit tokens, with or without the 1 KiB header of later programs
//   ds     .ds: datatrove's tokens of 2 or 4 bytes, with .ds.index and .ds.metadata beside it
//
// A record that cannot be used (not JSON, not UTF-8, too long) has a reason instead of a content
// and the reader goes on behind it. A reader that starts at a record's offset gives the same
// records as one that came there from the beginning.
//
// One thread per reader.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "data/tokenizer.h"

namespace longhaul {

inline constexpr size_t kMaxInputs = 1'000'000;
inline constexpr size_t kPieceBytes = 1 << 20;                 // of text
inline constexpr uint64_t kMaxLineBytes = uint64_t{64} << 20;  // of JSON
inline constexpr size_t kTokensPerRecord = 1 << 18;

enum class InputFormat : uint8_t { kText, kJsonl, kBin, kDatatrove };
// "text", "jsonl", "bin", "ds".
std::optional<InputFormat> InputFormatByName(std::string_view name);
InputFormat InputFormatOf(const std::string& path);  // by its ending

struct InputFile {
  std::string domain;
  std::string path;
  InputFormat format = InputFormat::kText;
  uint64_t bytes = 0;
  int64_t modified_ns = 0;
};

// `arguments` are PATH or DOMAIN=PATH; a folder stands for all files below it, without hidden ones
// and what accompanies .ds files. Sorted by (domain, path), whatever the order of arguments or of
// the folder's listing. NotFound for a missing path; InvalidArgument for a bad domain name, a file
// named twice, or no file at all.
absl::StatusOr<std::vector<InputFile>> ListInputs(const std::vector<std::string>& arguments,
                                                  std::optional<InputFormat> format);

struct Record {
  uint64_t offset = 0;  // in the file
  uint64_t end = 0;     // where the next one begins
  std::string text;
  std::vector<uint32_t> tokens;  // of token files
  bool ends_document = false;
  std::string problem;  // not empty: why it cannot be used
};

class RecordReader {
 public:
  virtual ~RecordReader() = default;
  // False at the end. Unavailable when the file cannot be read.
  virtual absl::StatusOr<bool> Next(Record& record) = 0;
};

struct ReadOptions {
  const Tokenizer* tokenizer = nullptr;  // decides where text may be cut; not owned
  std::string json_field = "text";
};

// `offset` is 0, or the offset or end of a record. InvalidArgument for a token file of a wrong size
// or with a header or index that does not belong to it.
absl::StatusOr<std::unique_ptr<RecordReader>> OpenRecords(const InputFile& file,
                                                          const ReadOptions& options,
                                                          uint64_t offset);

// ---- token files, as parsers ----

struct TokenFileShape {
  uint64_t data_offset = 0;
  uint32_t token_bytes = 0;
  uint64_t tokens = 0;
};
// `beginning` is at least the first 12 bytes of the file, or all of it.
absl::StatusOr<TokenFileShape> ParseBinShape(ByteSpan beginning, uint64_t file_bytes);
// `metadata` is the text of the .ds.metadata file; "" when there is none.
absl::StatusOr<TokenFileShape> ParseDatatroveShape(std::string_view metadata, uint64_t file_bytes);
// The .ds.index file: ends of documents, in tokens.
absl::Status CheckDatatroveIndex(ByteSpan index, uint64_t tokens);

}  // namespace longhaul
