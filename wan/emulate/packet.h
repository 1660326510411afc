// What one TUN device hands over: a virtio_net header and an IPv4 packet. With segmentation left to
// the device (TSO) a packet of up to 64 KiB stands for many segments on the wire; everything here
// counts and cuts in those segments. Pure; values.
//
// struct virtio_net_hdr: Virtual I/O Device (VIRTIO) specification, section 5.1.6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/time.h"

namespace longhaul::wan {

inline constexpr size_t kVnetHeaderBytes = 10;
inline constexpr size_t kMaxPacketBytes = 65'536;  // of the IPv4 packet

// A packet on its way through the emulated network.
struct Parcel {
  uint32_t from = 0;  // hosts, by index
  uint32_t to = 0;
  uint32_t segments = 1;
  uint32_t wire_bytes = 0;     // of all segments, headers included
  uint32_t segment_bytes = 0;  // of a full one
  Duration span{0};            // from the arrival of the first segment to that of the last
  std::vector<uint8_t> bytes;  // as read from the device
};

// Reads sizes and destination; `from` and `to` are left alone. Nothing unless it is an IPv4 packet
// whose lengths agree with each other.
std::optional<Parcel> ParseParcel(std::span<const uint8_t> raw);

// Destination address in host byte order. The parcel must come from ParseParcel.
uint32_t DestinationOf(const Parcel& parcel);

// Segments [first, first + count) as a packet of its own; sequence number, flags, lengths and the
// IPv4 checksum are made right. The TCP checksum is left partial, as the device takes it. 0 < count
// and first + count <= segments.
Parcel SliceParcel(const Parcel& parcel, uint32_t first, uint32_t count);

}  // namespace longhaul::wan
