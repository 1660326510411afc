#include "data/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/check.h"
#include "common/rng.h"

namespace longhaul {
namespace {

// Of short texts; only speed depends on it.
uint64_t HashOf(std::string_view word) {
  uint64_t h = word.size() * kGoldenGamma;
  size_t at = 0;
  for (; at + 8 <= word.size(); at += 8) {
    uint64_t chunk;
    std::memcpy(&chunk, word.data() + at, 8);
    h = (std::rotl(h, 23) ^ chunk) * 0x9FB21C651E98DF25ull;
  }
  uint64_t rest = 0;
  for (; at < word.size(); ++at) rest = rest << 8 | static_cast<uint8_t>(word[at]);
  return Mix((std::rotl(h, 23) ^ rest) * 0x9FB21C651E98DF25ull);
}

}  // namespace

BpeEncoder::BpeEncoder(const std::vector<uint32_t>& byte_ids, const std::vector<BpeMerge>& merges)
    : byte_ids_(byte_ids), words_(kWordSlots) {
  LONGHAUL_CHECK(byte_ids.size() == 256, "an id for every byte");
  pairs_.resize(std::bit_ceil(std::max<size_t>(16, merges.size() * 2)));
  for (uint32_t rank = 0; rank < merges.size(); ++rank) {
    const BpeMerge& m = merges[rank];
    const uint64_t key = uint64_t{m.left} << 32 | m.right;
    size_t at = Mix(key) & (pairs_.size() - 1);
    while (pairs_[at].key != kNoPair && pairs_[at].key != key) at = (at + 1) & (pairs_.size() - 1);
    if (pairs_[at].key == kNoPair) pairs_[at] = {key, rank, m.merged};
  }
}

const BpeEncoder::Pair* BpeEncoder::Find(uint32_t left, uint32_t right) const {
  const uint64_t key = uint64_t{left} << 32 | right;
  size_t at = Mix(key) & (pairs_.size() - 1);
  while (pairs_[at].key != key) {
    if (pairs_[at].key == kNoPair) return nullptr;
    at = (at + 1) & (pairs_.size() - 1);
  }
  return &pairs_[at];
}

void BpeEncoder::AddWholeWord(std::string_view word, uint32_t id) {
  whole_words_.emplace(word, id);
}

BpeEncoder::Word& BpeEncoder::Slot(uint64_t hash, std::string_view word) {
  size_t at = hash & (kWordSlots - 1);
  while (true) {
    Word& slot = words_[at];
    if (slot.tokens == 0) return slot;
    if (slot.hash == hash && slot.text_bytes == word.size() &&
        std::memcmp(texts_.data() + slot.text_at, word.data(), word.size()) == 0) {
      return slot;
    }
    at = (at + 1) & (kWordSlots - 1);
  }
}

void BpeEncoder::Forget() {
  std::fill(words_.begin(), words_.end(), Word());
  kept_ = 0;
  texts_.clear();
  tokens_.clear();
}

void BpeEncoder::Keep(Word& slot, uint64_t hash, std::string_view word, const uint32_t* tokens,
                      size_t count) {
  slot = {hash, static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(word.size()),
          static_cast<uint32_t>(tokens_.size()), static_cast<uint32_t>(count)};
  texts_.append(word);
  tokens_.insert(tokens_.end(), tokens, tokens + count);
  ++kept_;
}

void BpeEncoder::Encode(std::string_view word, std::vector<uint32_t>& out) {
  if (word.size() > kMaxKeptWordBytes) return EncodeNew(word, out);
  const uint64_t hash = HashOf(word);
  if (kept_ >= kMaxKeptWords) Forget();
  Word& slot = Slot(hash, word);
  if (slot.tokens > 0) {
    const uint32_t* tokens = tokens_.data() + slot.tokens_at;
    out.insert(out.end(), tokens, tokens + slot.tokens);
    return;
  }
  const size_t before = out.size();
  EncodeNew(word, out);
  if (out.size() > before) Keep(slot, hash, word, out.data() + before, out.size() - before);
}

void BpeEncoder::EncodeNew(std::string_view word, std::vector<uint32_t>& out) {
  if (!whole_words_.empty()) {
    const auto whole = whole_words_.find(std::string(word));
    if (whole != whole_words_.end()) return out.push_back(whole->second);
  }
  Merge(word, out);
}

void BpeEncoder::Push(int32_t at) {
  if (at < 0 || symbols_[at].after < 0) return;
  const uint32_t left = symbols_[at].id, right = symbols_[symbols_[at].after].id;
  if (const Pair* pair = Find(left, right)) {
    heap_.push_back({pair->rank, at, left, right, pair->merged});
    std::push_heap(heap_.begin(), heap_.end());
  }
}

void BpeEncoder::Merge(std::string_view word, std::vector<uint32_t>& out) {
  LONGHAUL_CHECK(word.size() < size_t{1} << 31, "a word is too long");
  const auto n = static_cast<int32_t>(word.size());
  symbols_.resize(word.size());
  for (int32_t i = 0; i < n; ++i) {
    symbols_[i] = {byte_ids_[static_cast<uint8_t>(word[i])], i - 1, i + 1 < n ? i + 1 : -1};
  }
  heap_.clear();
  for (int32_t i = 0; i < n; ++i) Push(i);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate c = heap_.back();
    heap_.pop_back();
    Symbol& left = symbols_[c.at];
    // What was merged meanwhile is not this pair any more.
    if (left.gone || left.id != c.left || left.after < 0 || symbols_[left.after].id != c.right) {
      continue;
    }
    Symbol& right = symbols_[left.after];
    right.gone = true;
    left.id = c.merged;
    left.after = right.after;
    if (left.after >= 0) symbols_[left.after].before = c.at;
    Push(left.before);
    Push(c.at);
  }
  for (int32_t i = 0; i >= 0 && i < n; i = symbols_[i].after) out.push_back(symbols_[i].id);
}

}  // namespace longhaul
