// Struct <-> generated Protobuf message, one overload per struct. Private to proto/: nobody else
// may include this, it shows Protobuf.
//
// ToProto never fails. FromProto refuses (InvalidArgument) wrong sizes, unknown enum values and too
// many list entries; the struct is then half filled and must be thrown away.
#pragma once

#include "absl/status/status.h"
#include "proto/longhaul.pb.h"
#include "proto/messages.h"

namespace longhaul {

void ToProto(const Enroll& in, wire::Enroll* out);
void ToProto(const Hello& in, wire::Hello* out);
void ToProto(const Heartbeat& in, wire::Heartbeat* out);
void ToProto(const ContributionReady& in, wire::ContributionReady* out);
void ToProto(const RequestDone& in, wire::RequestDone* out);
void ToProto(const Leave& in, wire::Leave* out);
void ToProto(const Fetch& in, wire::Fetch* out);
void ToProto(const FetchRefused& in, wire::FetchRefused* out);
void ToProto(const FetchBlob& in, wire::FetchBlob* out);
void ToProto(const BlobRefused& in, wire::BlobRefused* out);
void ToProto(const BlobElsewhere& in, wire::BlobElsewhere* out);
void ToProto(const Refused& in, wire::Refused* out);
void ToProto(const Enrolled& in, wire::Enrolled* out);
void ToProto(const Welcome& in, wire::Welcome* out);
void ToProto(const Assignment& in, wire::Assignment* out);
void ToProto(const AdminInvite& in, wire::AdminInvite* out);
void ToProto(const AdminRevoke& in, wire::AdminRevoke* out);
void ToProto(const AdminDone& in, wire::AdminDone* out);
void ToProto(const SliceReport& in, wire::SliceReport* out);
void ToProto(const AggregateHeld& in, wire::AggregateHeld* out);

absl::Status FromProto(const wire::Enroll& in, Enroll* out);
absl::Status FromProto(const wire::Hello& in, Hello* out);
absl::Status FromProto(const wire::Heartbeat& in, Heartbeat* out);
absl::Status FromProto(const wire::ContributionReady& in, ContributionReady* out);
absl::Status FromProto(const wire::RequestDone& in, RequestDone* out);
absl::Status FromProto(const wire::Leave& in, Leave* out);
absl::Status FromProto(const wire::Fetch& in, Fetch* out);
absl::Status FromProto(const wire::FetchRefused& in, FetchRefused* out);
absl::Status FromProto(const wire::FetchBlob& in, FetchBlob* out);
absl::Status FromProto(const wire::BlobRefused& in, BlobRefused* out);
absl::Status FromProto(const wire::BlobElsewhere& in, BlobElsewhere* out);
absl::Status FromProto(const wire::Refused& in, Refused* out);
absl::Status FromProto(const wire::Enrolled& in, Enrolled* out);
absl::Status FromProto(const wire::Welcome& in, Welcome* out);
absl::Status FromProto(const wire::Assignment& in, Assignment* out);
absl::Status FromProto(const wire::AdminInvite& in, AdminInvite* out);
absl::Status FromProto(const wire::AdminRevoke& in, AdminRevoke* out);
absl::Status FromProto(const wire::AdminDone& in, AdminDone* out);
absl::Status FromProto(const wire::SliceReport& in, SliceReport* out);
absl::Status FromProto(const wire::AggregateHeld& in, AggregateHeld* out);

// The parts that several messages share (codec_shared.cc).
void ToProto(const Generation& in, wire::Generation* out);
void ToProto(const ProcessId& in, wire::ProcessId* out);
void ToProto(const ContributionId& in, wire::ContributionId* out);
void ToProto(const ObjectId& in, wire::ObjectId* out);
void ToProto(const ObjectInfo& in, wire::ObjectInfo* out);
void ToProto(const LeaseRange& in, wire::LeaseRange* out);
void ToProto(const FragmentState& in, wire::FragmentState* out);
void ToProto(const SlicePart& in, wire::SlicePart* out);
absl::Status FromProto(const wire::Generation& in, Generation* out);
absl::Status FromProto(const wire::ProcessId& in, ProcessId* out);
absl::Status FromProto(const wire::ContributionId& in, ContributionId* out);
absl::Status FromProto(const wire::ObjectId& in, ObjectId* out);
absl::Status FromProto(const wire::ObjectInfo& in, ObjectInfo* out);
absl::Status FromProto(const wire::LeaseRange& in, LeaseRange* out);
absl::Status FromProto(const wire::FragmentState& in, FragmentState* out);
absl::Status FromProto(const wire::SlicePart& in, SlicePart* out);

// A text that stands for a fixed number of bytes.
template <size_t N>
std::string BytesOf(const std::array<uint8_t, N>& in) {
  return std::string(reinterpret_cast<const char*>(in.data()), N);
}
template <size_t N>
absl::Status FixedFromBytes(const std::string& in, std::array<uint8_t, N>* out) {
  if (in.size() != N)
    return absl::InvalidArgumentError("a key, digest or signature has a wrong size");
  std::memcpy(out->data(), in.data(), N);
  return absl::OkStatus();
}

// Enum values are equal on both sides and run from 1 to `last` without a gap.
template <class Enum, class WireEnum>
absl::Status EnumFromProto(WireEnum in, Enum last, Enum* out) {
  const int value = static_cast<int>(in);
  if (value < 1 || value > static_cast<int>(last)) {
    return absl::InvalidArgumentError("unknown enum value");
  }
  *out = static_cast<Enum>(value);
  return absl::OkStatus();
}

template <class Struct, class Repeated>
void ListToProto(const std::vector<Struct>& in, Repeated* out) {
  out->Reserve(static_cast<int>(in.size()));
  for (const Struct& entry : in) ToProto(entry, out->Add());
}
template <class Repeated, class Struct>
absl::Status ListFromProto(const Repeated& in, uint32_t limit, std::vector<Struct>* out) {
  if (static_cast<uint64_t>(in.size()) > limit) {
    return absl::InvalidArgumentError("more list entries than allowed");
  }
  out->resize(in.size());
  for (int i = 0; i < in.size(); ++i) {
    if (absl::Status s = FromProto(in.Get(i), &(*out)[i]); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace longhaul
