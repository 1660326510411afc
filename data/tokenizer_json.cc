// Reads tokenizer.json. simdjson keeps to its file: no exceptions, errors become statuses.
#include <simdjson.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "data/bpe.h"
#include "data/splitter.h"
#include "data/tokenizer.h"

namespace longhaul {
namespace {

using simdjson::dom::element;

absl::Status Bad(const std::string& reason) {
  return absl::InvalidArgumentError("tokenizer.json: " + reason);
}

// ---- the parts of the file ----

std::string_view TextOr(const element& object, const char* key, std::string_view otherwise) {
  std::string_view text;
  return object[key].get(text) ? otherwise : text;
}

bool IsNull(const element& object, const char* key) {
  element value;
  return object[key].get(value) || value.is_null();
}

bool TrueAt(const element& object, const char* key) {
  bool value = false;
  return !object[key].get(value) && value;
}

// Absent, null or "".
bool Empty(const element& object, const char* key) {
  return IsNull(object, key) || TextOr(object, key, "?").empty();
}

struct Settings {
  bool nfc = false;
  bool ignore_merges = false;
  SplitRule rule = SplitRule::kGpt2;
};

absl::Status ReadNormalizer(const element& root, Settings& settings) {
  if (IsNull(root, "normalizer")) return absl::OkStatus();
  const element normalizer = root["normalizer"];
  const std::string_view type = TextOr(normalizer, "type", "");
  if (type == "NFC") {
    settings.nfc = true;
    return absl::OkStatus();
  }
  simdjson::dom::array parts;
  if (type == "Sequence" && !normalizer["normalizers"].get(parts) && parts.size() == 0) {
    return absl::OkStatus();
  }
  return Bad(absl::StrCat("normalizer ", std::string(type), "; none or NFC is possible"));
}

absl::Status ReadByteLevel(const element& part, bool with_expression) {
  if (TextOr(part, "type", "") != "ByteLevel") return Bad("a pre_tokenizer other than ByteLevel");
  if (TrueAt(part, "add_prefix_space")) return Bad("add_prefix_space is not possible");
  const bool use_regex = IsNull(part, "use_regex") || TrueAt(part, "use_regex");
  return use_regex == with_expression ? absl::OkStatus() : Bad("the pre_tokenizer splits twice");
}

absl::Status ReadSplit(const element& part, Settings& settings) {
  if (TextOr(part, "type", "") != "Split" || TextOr(part, "behavior", "") != "Isolated" ||
      TrueAt(part, "invert")) {
    return Bad("a pre_tokenizer other than an isolated Split and ByteLevel");
  }
  element pattern;
  std::string_view expression;
  if (part["pattern"].get(pattern) || pattern["Regex"].get(expression)) {
    return Bad("a Split without an expression");
  }
  const auto rule = SplitRuleOf(expression);
  if (!rule) {
    return Bad(absl::StrCat("a Split by another expression than those of GPT-2, Llama 3, Qwen 2: ",
                            std::string(expression)));
  }
  settings.rule = *rule;
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(const element& root, Settings& settings) {
  element part;
  if (root["pre_tokenizer"].get(part)) return Bad("no pre_tokenizer");
  if (TextOr(part, "type", "") != "Sequence") return ReadByteLevel(part, true);
  simdjson::dom::array parts;
  if (part["pretokenizers"].get(parts) || parts.size() != 2) {
    return Bad("a pre_tokenizer other than Split and ByteLevel");
  }
  RETURN_IF_ERROR(ReadSplit(parts.at(0), settings));
  return ReadByteLevel(parts.at(1), false);
}

absl::Status CheckModel(const element& model, Settings& settings) {
  if (TextOr(model, "type", "BPE") != "BPE") return Bad("the model is not BPE");
  if (!IsNull(model, "dropout")) return Bad("dropout is not possible");
  if (!Empty(model, "continuing_subword_prefix") || !Empty(model, "end_of_word_suffix")) {
    return Bad("prefixes and suffixes of words are not possible");
  }
  if (TrueAt(model, "byte_fallback")) return Bad("byte_fallback is not possible");
  settings.ignore_merges = TrueAt(model, "ignore_merges");
  return absl::OkStatus();
}

// ---- vocabulary ----

// GPT-2 writes the bytes of a token as printable characters: the printable ones of Latin-1 stand
// for themselves, the others for U+0100, U+0101, ... in order.
std::unordered_map<uint32_t, uint8_t> ByteOfChar() {
  std::unordered_map<uint32_t, uint8_t> map;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable =
        (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
    map[printable ? b : next++] = static_cast<uint8_t>(b);
  }
  return map;
}

class Vocabulary {
 public:
  absl::Status Read(const element& model) {
    simdjson::dom::object vocab;
    if (model["vocab"].get(vocab)) return Bad("no vocabulary");
    for (const auto& [token, value] : vocab) {
      uint64_t id = 0;
      if (value.get(id) || id >= kMaxTokens) return Bad("an id that is not a small number");
      if (!ids_.emplace(token, static_cast<uint32_t>(id)).second) return Bad("a token twice");
      if (!used_.emplace(static_cast<uint32_t>(id), true).second) return Bad("an id twice");
      size_ = std::max(size_, static_cast<uint32_t>(id) + 1);
    }
    return absl::OkStatus();
  }

  absl::Status ReadAdded(const element& root) {
    simdjson::dom::array added;
    if (root["added_tokens"].get(added)) return absl::OkStatus();
    for (const element& token : added) {
      uint64_t id = 0;
      std::string_view content;
      if (token["id"].get(id) || id >= kMaxTokens || token["content"].get(content)) {
        return Bad("an added token without an id or a text");
      }
      added_.emplace(content, static_cast<uint32_t>(id));
      size_ = std::max(size_, static_cast<uint32_t>(id) + 1);
    }
    return absl::OkStatus();
  }

  std::optional<uint32_t> Find(std::string_view token) const {
    const auto it = ids_.find(std::string(token));
    return it == ids_.end() ? std::nullopt : std::optional(it->second);
  }
  std::optional<uint32_t> FindAdded(std::string_view token) const {
    const auto it = added_.find(std::string(token));
    return it == added_.end() ? std::nullopt : std::optional(it->second);
  }
  uint32_t size() const { return size_; }

  absl::StatusOr<std::vector<uint32_t>> ByteIds() const {
    std::vector<uint32_t> ids(256);
    for (const auto& [code, byte] : ByteOfChar()) {
      // All are below U+0800: one or two bytes of UTF-8.
      const std::string text = code < 0x80 ? std::string(1, static_cast<char>(code))
                                           : std::string{static_cast<char>(0xC0 | code >> 6),
                                                         static_cast<char>(0x80 | (code & 63))};
      const auto id = Find(text);
      if (!id) return Bad(absl::StrCat("the vocabulary has no token for byte ", byte));
      ids[byte] = *id;
    }
    return ids;
  }

  // Tokens as the bytes they stand for; those that stand for none are left out.
  std::vector<std::pair<std::string, uint32_t>> Words() const {
    const auto byte_of = ByteOfChar();
    std::vector<std::pair<std::string, uint32_t>> words;
    for (const auto& [token, id] : ids_) {
      std::string bytes;
      bool known = true;
      for (size_t i = 0; i < token.size() && known; ++i) {
        uint32_t code = static_cast<uint8_t>(token[i]);
        if (code >= 0xC0 && code < 0xE0 && i + 1 < token.size()) {
          code = (code & 31) << 6 | (static_cast<uint8_t>(token[++i]) & 63);
        }
        const auto byte = byte_of.find(code);
        known = byte != byte_of.end();
        if (known) bytes.push_back(static_cast<char>(byte->second));
      }
      if (known) words.emplace_back(std::move(bytes), id);
    }
    return words;
  }

 private:
  std::unordered_map<std::string, uint32_t> ids_;
  std::unordered_map<uint32_t, bool> used_;
  std::unordered_map<std::string, uint32_t> added_;
  uint32_t size_ = 0;
};

// "a b", or ["a", "b"].
absl::Status SplitMerge(const element& merge, std::string_view& left, std::string_view& right) {
  simdjson::dom::array parts;
  if (!merge.get(parts)) {
    if (parts.size() != 2 || parts.at(0).get(left) || parts.at(1).get(right)) {
      return Bad("a merge that is not two tokens");
    }
    return absl::OkStatus();
  }
  std::string_view text;
  if (merge.get(text)) return Bad("a merge that is not a text");
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return Bad("a merge that is not two tokens");
  left = text.substr(0, space);
  right = text.substr(space + 1);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<BpeMerge>> ReadMerges(const element& model, const Vocabulary& vocab) {
  simdjson::dom::array list;
  if (model["merges"].get(list)) return Bad("no merges");
  std::vector<BpeMerge> merges;
  for (const element& merge : list) {
    std::string_view left, right;
    RETURN_IF_ERROR(SplitMerge(merge, left, right));
    const auto a = vocab.Find(left), b = vocab.Find(right);
    const auto both = vocab.Find(std::string(left) + std::string(right));
    if (!a || !b || !both) return Bad("a merge of tokens that are not in the vocabulary");
    merges.push_back({*a, *b, *both});
    if (merges.size() > kMaxTokens) return Bad("too many merges");
  }
  return merges;
}

absl::StatusOr<std::optional<uint32_t>> DocumentEnd(const Vocabulary& vocab,
                                                    const std::string& wanted) {
  if (!wanted.empty()) {
    auto id = vocab.FindAdded(wanted);
    if (!id) id = vocab.Find(wanted);
    if (!id) return Bad("no token \"" + wanted + "\" to end documents with");
    return id;
  }
  for (const char* usual : {"<|endoftext|>", "<|end_of_text|>", "</s>"}) {
    if (const auto id = vocab.FindAdded(usual)) return id;
  }
  return std::optional<uint32_t>();
}

// ---- the tokenizer ----

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(std::string name, Digest hash, const Settings& settings, uint32_t vocab_size,
               std::optional<uint32_t> document_end, BpeEncoder encoder)
      : name_(std::move(name)),
        hash_(hash),
        nfc_(settings.nfc),
        vocab_size_(vocab_size),
        document_end_(document_end),
        splitter_(settings.rule),
        encoder_(std::move(encoder)) {}

  const std::string& name() const override { return name_; }
  const Digest& hash() const override { return hash_; }
  uint32_t vocab_size() const override { return vocab_size_; }
  std::optional<uint32_t> document_end() const override { return document_end_; }
  size_t SafeCut(std::string_view text) const override { return splitter_.SafeCut(text); }

  absl::Status Encode(std::string_view text, std::vector<uint32_t>& out) override {
    if (!simdjson::validate_utf8(text.data(), text.size())) {
      return absl::InvalidArgumentError("the text is not UTF-8");
    }
    if (nfc_) {
      ASSIGN_OR_RETURN(const std::string normal, Normalize(text));
      Split(normal, out);
    } else {
      Split(text, out);
    }
    return absl::OkStatus();
  }

 private:
  static absl::StatusOr<std::string> Normalize(std::string_view text) {
    std::string normal;
    icu::StringByteSink<std::string> sink(&normal);
    UErrorCode error = U_ZERO_ERROR;
    const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
    if (U_SUCCESS(error)) {
      nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                         nullptr, error);
    }
    if (U_FAILURE(error)) return absl::InternalError("ICU cannot normalise");
    return normal;
  }

  void Split(std::string_view text, std::vector<uint32_t>& out) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = splitter_.WordEnd(text, at);
      encoder_.Encode(text.substr(at, end - at), out);
      at = end;
    }
  }

  const std::string name_;
  const Digest hash_;
  const bool nfc_;
  const uint32_t vocab_size_;
  const std::optional<uint32_t> document_end_;
  const Splitter splitter_;
  BpeEncoder encoder_;
};

// What the ids are a function of: the file, and the token after documents.
Digest HashOf(const std::string& json, std::optional<uint32_t> document_end) {
  ByteWriter w;
  w.String("LH-tokenizer-json");
  w.Write(Blake2b(std::string_view(json)));
  w.Bool(document_end.has_value());
  w.U32(document_end.value_or(0));
  return Blake2b(w.str());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(const std::string& name,
                                                              const std::string& json,
                                                              const std::string& document_end) {
  if (json.size() > kMaxTokenizerFileBytes) return Bad("the file is too large");
  simdjson::dom::parser parser;
  element root, model;
  if (parser.parse(json).get(root)) return Bad("not JSON");
  if (root["model"].get(model)) return Bad("no model");
  Settings settings;
  RETURN_IF_ERROR(CheckModel(model, settings));
  RETURN_IF_ERROR(ReadNormalizer(root, settings));
  RETURN_IF_ERROR(ReadPreTokenizer(root, settings));
  Vocabulary vocab;
  RETURN_IF_ERROR(vocab.Read(model));
  RETURN_IF_ERROR(vocab.ReadAdded(root));
  ASSIGN_OR_RETURN(const std::vector<uint32_t> byte_ids, vocab.ByteIds());
  ASSIGN_OR_RETURN(const std::vector<BpeMerge> merges, ReadMerges(model, vocab));
  ASSIGN_OR_RETURN(const std::optional<uint32_t> end, DocumentEnd(vocab, document_end));
  BpeEncoder encoder(byte_ids, merges);
  if (settings.ignore_merges) {
    for (const auto& [word, id] : vocab.Words()) encoder.AddWholeWord(word, id);
  }
  return std::make_unique<BpeTokenizer>(name, HashOf(json, end), settings, vocab.size(), end,
                                        std::move(encoder));
}

}  // namespace longhaul
