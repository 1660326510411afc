#include "wan/emulate/packet.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace longhaul::wan {
namespace {

constexpr uint8_t kGsoNone = 0;
constexpr uint8_t kGsoTcp4 = 1;
constexpr size_t kGsoTypeAt = 1;  // in the virtio_net header
constexpr size_t kGsoSizeAt = 4;
constexpr size_t kIpBytes = 20;  // the least IPv4 header
constexpr size_t kTcpBytes = 20;
constexpr uint8_t kTcpProtocol = 6;
constexpr uint8_t kFin = 0x01, kPsh = 0x08, kCwr = 0x80;

uint16_t LittleU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
uint16_t BigU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t BigU32(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}
void PutBigU16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}
void PutBigU32(uint8_t* p, uint32_t v) {
  PutBigU16(p, v >> 16);
  PutBigU16(p + 2, v & 0xFFFF);
}
void PutLittleU16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v);
  p[1] = static_cast<uint8_t>(v >> 8);
}

size_t IpHeaderBytes(const uint8_t* ip) { return size_t{ip[0] & 0xFu} * 4; }
size_t TcpHeaderBytes(const uint8_t* tcp) { return size_t{tcp[12]} / 16 * 4; }

// RFC 791: the complement of the one's complement sum of the header's 16-bit words.
uint16_t IpChecksum(const uint8_t* ip, size_t bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes; i += 2) sum += BigU16(ip + i);
  while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// IPv4 and TCP header together; 0 when the packet is not what its virtio header says.
size_t SegmentHeaderBytes(std::span<const uint8_t> ip) {
  const size_t ip_bytes = IpHeaderBytes(ip.data());
  if (ip[9] != kTcpProtocol || ip.size() < ip_bytes + kTcpBytes) return 0;
  const size_t bytes = ip_bytes + TcpHeaderBytes(ip.data() + ip_bytes);
  return TcpHeaderBytes(ip.data() + ip_bytes) < kTcpBytes || bytes >= ip.size() ? 0 : bytes;
}

}  // namespace

std::optional<Parcel> ParseParcel(std::span<const uint8_t> raw) {
  if (raw.size() < kVnetHeaderBytes + kIpBytes) return std::nullopt;
  const std::span<const uint8_t> ip = raw.subspan(kVnetHeaderBytes);
  if (ip[0] >> 4 != 4 || ip.size() > kMaxPacketBytes) return std::nullopt;
  const size_t ip_bytes = IpHeaderBytes(ip.data());
  if (ip_bytes < kIpBytes || ip_bytes > ip.size()) return std::nullopt;
  Parcel out;
  out.wire_bytes = out.segment_bytes = static_cast<uint32_t>(ip.size());
  if (raw[kGsoTypeAt] != kGsoNone) {
    const size_t header = SegmentHeaderBytes(ip);
    const uint32_t payload = LittleU16(&raw[kGsoSizeAt]);
    if ((raw[kGsoTypeAt] & 0x7F) != kGsoTcp4 || header == 0 || payload == 0) return std::nullopt;
    const size_t total = ip.size() - header;
    out.segments = static_cast<uint32_t>((total + payload - 1) / payload);
    out.wire_bytes = static_cast<uint32_t>(total + out.segments * header);
    out.segment_bytes = static_cast<uint32_t>(std::min<size_t>(total, payload) + header);
  }
  out.bytes.assign(raw.begin(), raw.end());
  return out;
}

uint32_t DestinationOf(const Parcel& parcel) {
  return BigU32(&parcel.bytes[kVnetHeaderBytes + 16]);
}

Parcel SliceParcel(const Parcel& parcel, uint32_t first, uint32_t count) {
  LONGHAUL_CHECK(count > 0 && first + count <= parcel.segments, "a slice outside of its parcel");
  if (count == parcel.segments) return parcel;
  const uint8_t* old_ip = &parcel.bytes[kVnetHeaderBytes];
  const size_t ip_bytes = IpHeaderBytes(old_ip);
  const size_t header = ip_bytes + TcpHeaderBytes(old_ip + ip_bytes);
  const size_t payload = LittleU16(&parcel.bytes[kGsoSizeAt]);
  const size_t begin = first * payload;
  const size_t end =
      std::min(begin + count * payload, parcel.bytes.size() - kVnetHeaderBytes - header);
  Parcel out{parcel.from, parcel.to, count, 0, parcel.segment_bytes, parcel.span, {}};
  out.wire_bytes = static_cast<uint32_t>(end - begin + count * header);
  out.bytes.resize(kVnetHeaderBytes + header + (end - begin));
  std::memcpy(out.bytes.data(), parcel.bytes.data(), kVnetHeaderBytes + header);
  std::memcpy(&out.bytes[kVnetHeaderBytes + header], old_ip + header + begin, end - begin);
  if (count == 1) {
    out.bytes[kGsoTypeAt] = kGsoNone;
    PutLittleU16(&out.bytes[kGsoSizeAt], 0);
    out.segment_bytes = out.wire_bytes;
  }
  uint8_t* ip = &out.bytes[kVnetHeaderBytes];
  uint8_t* tcp = ip + ip_bytes;
  PutBigU16(ip + 2, static_cast<uint32_t>(header + end - begin));
  PutBigU16(ip + 4, BigU16(ip + 4) + first);  // each segment has its own identification
  PutBigU16(ip + 10, 0);
  PutBigU16(ip + 10, IpChecksum(ip, ip_bytes));
  PutBigU32(tcp + 4, BigU32(tcp + 4) + static_cast<uint32_t>(begin));
  if (first > 0) tcp[13] &= static_cast<uint8_t>(~kCwr);
  if (first + count < parcel.segments) tcp[13] &= static_cast<uint8_t>(~(kFin | kPsh));
  return out;
}

}  // namespace longhaul::wan
