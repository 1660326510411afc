// A word-level vocabulary, for the case with a large vocabulary: rare tokens are what coding drops
// first. A piece of text is a run of letters with at most one blank before it, or any other single
// byte. Pure.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace longhaul {

struct WordTokens {
  std::vector<uint16_t> ids;  // of the whole text, in order
  size_t training = 0;        // how many of them are of the training part
};

// Token t is the t-th most frequent piece of the first `training_bytes` (of equally frequent ones
// the lower in byte order), vocab - 1 every other piece. 2 <= vocab <= 65536.
WordTokens MakeWordTokens(std::string_view text, size_t training_bytes, uint32_t vocab);

}  // namespace longhaul
