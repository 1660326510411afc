#include "common/hash.h"
#include "data/tokenizer.h"

namespace longhaul {
namespace {

class ByteTokenizer : public Tokenizer {
 public:
  const std::string& name() const override { return name_; }
  const Digest& hash() const override { return hash_; }
  uint32_t vocab_size() const override { return 256; }
  std::optional<uint32_t> document_end() const override { return std::nullopt; }
  absl::Status Encode(std::string_view text, std::vector<uint32_t>& out) override {
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
    return absl::OkStatus();
  }
  size_t SafeCut(std::string_view text) const override { return text.size(); }

 private:
  const std::string name_ = "bytes";
  const Digest hash_ = Blake2b("LH-tokenizer-bytes");
};

class NoTokenizer : public Tokenizer {
 public:
  explicit NoTokenizer(uint32_t vocab_size) : vocab_size_(vocab_size), hash_(HashOf(vocab_size)) {}
  const std::string& name() const override { return name_; }
  const Digest& hash() const override { return hash_; }
  uint32_t vocab_size() const override { return vocab_size_; }
  std::optional<uint32_t> document_end() const override { return std::nullopt; }
  absl::Status Encode(std::string_view, std::vector<uint32_t>&) override {
    return absl::InvalidArgumentError("there is no tokenizer for text");
  }
  size_t SafeCut(std::string_view text) const override { return text.size(); }

 private:
  static Digest HashOf(uint32_t vocab_size) {
    ByteWriter w;
    w.String("LH-tokenizer-none");
    w.U32(vocab_size);
    return Blake2b(w.str());
  }

  const std::string name_ = "none";
  const uint32_t vocab_size_;
  const Digest hash_;
};

}  // namespace

std::unique_ptr<Tokenizer> NewNoTokenizer(uint32_t vocab_size) {
  return std::make_unique<NoTokenizer>(vocab_size);
}

std::unique_ptr<Tokenizer> NewByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace longhaul
