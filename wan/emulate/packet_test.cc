#include "wan/emulate/packet.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/rng.h"

namespace longhaul::wan {
namespace {

constexpr size_t kHeaders = 20 + 32;  // IPv4, TCP with options
constexpr uint32_t kMss = 1448;

// A TCP packet as the kernel hands it over: `payload` bytes in segments of kMss.
std::vector<uint8_t> TcpPacket(size_t payload, uint8_t flags) {
  std::vector<uint8_t> raw(kVnetHeaderBytes + kHeaders + payload);
  raw[0] = 1;  // checksum partial
  if (payload > kMss) {
    raw[1] = 1;  // TCPv4
    raw[4] = kMss & 0xFF;
    raw[5] = kMss >> 8;
  }
  uint8_t* ip = &raw[kVnetHeaderBytes];
  const size_t total = kHeaders + payload;
  ip[0] = 0x45;
  ip[2] = static_cast<uint8_t>(total >> 8);
  ip[3] = static_cast<uint8_t>(total);
  ip[5] = 7;  // identification
  ip[9] = 6;
  ip[16] = 10, ip[17] = 77, ip[18] = 0, ip[19] = 2;
  uint8_t* tcp = ip + 20;
  tcp[7] = 100;  // sequence number
  tcp[12] = 8 << 4;
  tcp[13] = flags;
  for (size_t i = 0; i < payload; ++i) tcp[32 + i] = static_cast<uint8_t>(Draw(1, {i}));
  return raw;
}

uint32_t Sum(const uint8_t* ip) {
  uint32_t sum = 0;
  for (int i = 0; i < 20; i += 2) sum += static_cast<uint32_t>(ip[i] << 8 | ip[i + 1]);
  return (sum & 0xFFFF) + (sum >> 16);
}

TEST(PacketTest, CountsSegmentsAsTheWireWould) {
  const auto parcel = ParseParcel(TcpPacket(10 * kMss + 1, 0x10));
  ASSERT_TRUE(parcel.has_value());
  EXPECT_EQ(parcel->segments, 11u);
  EXPECT_EQ(parcel->wire_bytes, 11 * kHeaders + 10 * kMss + 1);
  EXPECT_EQ(parcel->segment_bytes, kHeaders + kMss);
  EXPECT_EQ(DestinationOf(*parcel), 0x0A4D0002u);
}

TEST(PacketTest, SmallPacketIsOneSegment) {
  const auto parcel = ParseParcel(TcpPacket(3, 0x18));
  ASSERT_TRUE(parcel.has_value());
  EXPECT_EQ(parcel->segments, 1u);
  EXPECT_EQ(parcel->wire_bytes, kHeaders + 3);
}

// Slices put together again are the packet; each is a correct packet by itself.
TEST(PacketTest, SlicesCoverThePacket) {
  const std::vector<uint8_t> raw = TcpPacket(7 * kMss + 100, 0x10 | 0x80 | 0x08 | 0x01);
  const auto parcel = ParseParcel(raw);
  ASSERT_TRUE(parcel.has_value());
  std::vector<uint8_t> payload;
  uint32_t wire_bytes = 0;
  for (auto [first, count] : {std::pair{0u, 3u}, {3u, 1u}, {4u, 4u}}) {
    const Parcel slice = SliceParcel(*parcel, first, count);
    const uint8_t* ip = &slice.bytes[kVnetHeaderBytes];
    const size_t total = size_t{ip[2]} << 8 | ip[3];
    EXPECT_EQ(total, slice.bytes.size() - kVnetHeaderBytes);
    EXPECT_EQ((Sum(ip) & 0xFFFF) + (Sum(ip) >> 16), 0xFFFFu) << "IPv4 checksum";
    EXPECT_EQ(ip[5], 7 + first);
    const uint8_t* tcp = ip + 20;
    const uint32_t sequence =
        uint32_t{tcp[4]} << 24 | uint32_t{tcp[5]} << 16 | uint32_t{tcp[6]} << 8 | tcp[7];
    EXPECT_EQ(sequence, 100 + payload.size());
    EXPECT_EQ((tcp[13] & 0x80) != 0, first == 0) << "CWR";
    EXPECT_EQ((tcp[13] & 0x01) != 0, first == 4) << "FIN";
    EXPECT_EQ(slice.bytes[1], count == 1 ? 0 : 1);
    wire_bytes += slice.wire_bytes;
    payload.insert(payload.end(), tcp + 32, ip + total);
    const auto again = ParseParcel(slice.bytes);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->segments, count);
    EXPECT_EQ(again->wire_bytes, slice.wire_bytes);
  }
  EXPECT_EQ(wire_bytes, parcel->wire_bytes);
  EXPECT_TRUE(std::equal(payload.begin(), payload.end(), raw.end() - (7 * kMss + 100), raw.end()));
}

TEST(PacketTest, RefusesWhatIsNoIpv4Packet) {
  EXPECT_FALSE(ParseParcel({}).has_value());
  std::vector<uint8_t> raw = TcpPacket(5000, 0x10);
  raw[kVnetHeaderBytes] = 0x65;  // IPv6
  EXPECT_FALSE(ParseParcel(raw).has_value());
  raw = TcpPacket(5000, 0x10);
  raw[4] = raw[5] = 0;  // segments of no size
  EXPECT_FALSE(ParseParcel(raw).has_value());
  raw = TcpPacket(5000, 0x10);
  raw[kVnetHeaderBytes + 20 + 12] = 0xF0;  // TCP header of 60 bytes: still inside
  EXPECT_TRUE(ParseParcel(raw).has_value());
  raw[kVnetHeaderBytes] = 0x4F;  // and an IPv4 header of 60
  EXPECT_TRUE(ParseParcel(raw).has_value());
}

TEST(PacketTest, GarbageNeverReadsOutside) {
  Rng rng(3);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<uint8_t> raw(rng.Below(120));
    for (uint8_t& b : raw) b = static_cast<uint8_t>(rng.Next());
    if (raw.size() > 30) raw[kVnetHeaderBytes] = 0x45, raw[1] = 1, raw[kVnetHeaderBytes + 9] = 6;
    const auto parcel = ParseParcel(raw);
    if (!parcel || parcel->segments < 2) continue;
    const auto first = static_cast<uint32_t>(rng.Below(parcel->segments));
    SliceParcel(*parcel, first, 1 + static_cast<uint32_t>(rng.Below(parcel->segments - first)));
  }
}

}  // namespace
}  // namespace longhaul::wan
