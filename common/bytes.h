// Canonical little-endian encoding, used for everything that is journaled or hashed. Two equal
// values have equal bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "common/ids.h"

namespace longhaul {

using ByteSpan = std::span<const std::byte>;

inline ByteSpan AsBytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}
template <class T>
ByteSpan AsBytes(std::span<const T> s) {
  return std::as_bytes(s);
}

class ByteWriter {
 public:
  void U8(uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void U16(uint16_t v) { Raw(&v, sizeof v); }
  void U32(uint32_t v) { Raw(&v, sizeof v); }
  void U64(uint64_t v) { Raw(&v, sizeof v); }
  void I64(int64_t v) { U64(static_cast<uint64_t>(v)); }
  void F32(float v) { U32(std::bit_cast<uint32_t>(v)); }
  void F64(double v) { U64(std::bit_cast<uint64_t>(v)); }
  void Bool(bool v) { U8(v ? 1 : 0); }
  void String(std::string_view s);  // 32-bit length, then the bytes
  void Raw(const void* data, size_t size) { out_.append(static_cast<const char*>(data), size); }
  void Write(const Digest& d) { Raw(d.data(), d.size()); }
  void Write(const WorkerKey& k) { Raw(k.bytes.data(), k.bytes.size()); }
  void Write(const ProcessId& p) { U64(p.high), U64(p.low); }
  void Write(const Generation& g) { U64(g.counter), U64(g.random); }
  void Write(const ContributionId& c) { U64(c.session.value), U64(c.sequence); }
  template <class Tag>
  void Write(StrongId<Tag> id) {
    U64(id.value);
  }

  const std::string& str() const { return out_; }
  std::string Take() { return std::move(out_); }

 private:
  static_assert(std::endian::native == std::endian::little);
  std::string out_;
};

// Reads what ByteWriter wrote. Never reads past the end: after the first short read `ok()` is false
// and every further value is zero. Callers check `ok()` (and `AtEnd()` where nothing may follow)
// once, at the end.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan in) : in_(in) {}
  explicit ByteReader(std::string_view in) : in_(AsBytes(in)) {}

  uint8_t U8() { return Fixed<uint8_t>(); }
  uint16_t U16() { return Fixed<uint16_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }
  int64_t I64() { return static_cast<int64_t>(U64()); }
  float F32() { return std::bit_cast<float>(U32()); }
  double F64() { return std::bit_cast<double>(U64()); }
  bool Bool();  // anything but 0 and 1 is an error
  std::string String(size_t max_bytes);
  void Read(Digest& d) { Raw(d.data(), d.size()); }
  void Read(WorkerKey& k) { Raw(k.bytes.data(), k.bytes.size()); }
  void Read(ProcessId& p) { p.high = U64(), p.low = U64(); }
  void Read(Generation& g) { g.counter = U64(), g.random = U64(); }
  void Read(ContributionId& c) { c.session.value = U64(), c.sequence = U64(); }
  template <class Tag>
  void Read(StrongId<Tag>& id) {
    id.value = U64();
  }
  // A count of elements that follow, each at least `min_element_bytes` long: refused when the rest
  // cannot hold them.
  uint64_t Count(size_t min_element_bytes);

  bool Raw(void* out, size_t size);
  ByteSpan Rest() const { return in_.subspan(at_); }
  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && at_ == in_.size(); }
  void Fail() { ok_ = false; }

 private:
  template <class T>
  T Fixed() {
    T v{};
    Raw(&v, sizeof v);
    return v;
  }

  ByteSpan in_;
  size_t at_ = 0;
  bool ok_ = true;
};

std::string ToHex(ByteSpan bytes);
inline std::string ToHex(const Digest& d) { return ToHex(std::as_bytes(std::span(d))); }
// First eight hex digits: for logs and tables only.
inline std::string ShortHex(const Digest& d) { return ToHex(d).substr(0, 8); }
inline std::string ToHex(const WorkerKey& k) { return ToHex(std::as_bytes(std::span(k.bytes))); }
// False unless `hex` is exactly 2 * out.size() hex digits.
bool FromHex(std::string_view hex, std::span<uint8_t> out);

}  // namespace longhaul
