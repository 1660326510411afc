#include "common/bytes.h"

namespace longhaul {

void ByteWriter::String(std::string_view s) {
  U32(static_cast<uint32_t>(s.size()));
  Raw(s.data(), s.size());
}

bool ByteReader::Raw(void* out, size_t size) {
  if (!ok_ || in_.size() - at_ < size) {
    ok_ = false;
    std::memset(out, 0, size);
    return false;
  }
  std::memcpy(out, in_.data() + at_, size);
  at_ += size;
  return true;
}

bool ByteReader::Bool() {
  uint8_t v = U8();
  if (v > 1) ok_ = false;
  return v == 1;
}

std::string ByteReader::String(size_t max_bytes) {
  uint32_t size = U32();
  if (!ok_ || size > max_bytes || size > in_.size() - at_) {
    ok_ = false;
    return {};
  }
  std::string s(size, '\0');
  Raw(s.data(), size);
  return s;
}

uint64_t ByteReader::Count(size_t min_element_bytes) {
  uint64_t n = U64();
  if (!ok_ || n > (in_.size() - at_) / min_element_bytes) {
    ok_ = false;
    return 0;
  }
  return n;
}

std::string ToHex(ByteSpan bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (std::byte b : bytes) {
    out.push_back(kDigits[static_cast<uint8_t>(b) >> 4]);
    out.push_back(kDigits[static_cast<uint8_t>(b) & 15]);
  }
  return out;
}

namespace {
int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace

bool FromHex(std::string_view hex, std::span<uint8_t> out) {
  if (hex.size() != 2 * out.size()) return false;
  for (size_t i = 0; i < out.size(); ++i) {
    int high = HexValue(hex[2 * i]);
    int low = HexValue(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

}  // namespace longhaul
