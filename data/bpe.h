// Byte-pair encoding of one word: the symbols are its bytes; again and again the neighbours with
// the lowest rank (of equals the leftmost) become one, until no pair of neighbours has a rank.
//
// Owned by one thread: words that were seen are kept, up to a bound.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace longhaul {

struct BpeMerge {
  uint32_t left = 0;
  uint32_t right = 0;
  uint32_t merged = 0;
};

class BpeEncoder {
 public:
  // The id of every byte; merges by rank. Of a pair that is there twice, the first one counts.
  BpeEncoder(const std::vector<uint32_t>& byte_ids, const std::vector<BpeMerge>& merges);

  // A word that is one token whatever the merges say. Before the first Encode.
  void AddWholeWord(std::string_view word, uint32_t id);

  // Appends the tokens of a word shorter than 2 GiB.
  void Encode(std::string_view word, std::vector<uint32_t>& out);

 private:
  struct Pair {
    uint64_t key = kNoPair;  // left << 32 | right
    uint32_t rank = 0;
    uint32_t merged = 0;
  };
  struct Word {
    uint64_t hash = 0;
    uint32_t text_at = 0;
    uint32_t text_bytes = 0;
    uint32_t tokens_at = 0;
    uint32_t tokens = 0;  // 0: the slot is free
  };
  struct Symbol {
    uint32_t id = 0;
    int32_t before = -1;
    int32_t after = -1;
    bool gone = false;
  };
  struct Candidate {
    uint32_t rank = 0;
    int32_t at = 0;  // left symbol
    uint32_t left = 0;
    uint32_t right = 0;
    uint32_t merged = 0;
    // std:: heaps keep the greatest on top.
    bool operator<(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  static constexpr uint64_t kNoPair = UINT64_MAX;
  static constexpr size_t kWordSlots = 1 << 17;
  static constexpr size_t kMaxKeptWords = kWordSlots / 2;
  static constexpr size_t kMaxKeptWordBytes = 64;

  const Pair* Find(uint32_t left, uint32_t right) const;
  void Push(int32_t at);
  void EncodeNew(std::string_view word, std::vector<uint32_t>& out);
  void Merge(std::string_view word, std::vector<uint32_t>& out);
  void Keep(Word& slot, uint64_t hash, std::string_view word, const uint32_t* tokens, size_t count);
  Word& Slot(uint64_t hash, std::string_view word);
  void Forget();

  std::vector<uint32_t> byte_ids_;
  std::vector<Pair> pairs_;  // open addressing, a power of two
  std::unordered_map<std::string, uint32_t> whole_words_;
  std::vector<Word> words_;
  size_t kept_ = 0;
  std::string texts_;
  std::vector<uint32_t> tokens_;
  // Of the word at hand; kept for their memory.
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace longhaul
