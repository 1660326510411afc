#include "proto/codec.h"

#include <google/protobuf/io/coded_stream.h>

#include "common/status_macros.h"
#include "proto/codec_parts.h"

namespace longhaul {

namespace {

constexpr int kMaxNesting = 16;

// Where each kind of message lives in the envelope.
wire::Enroll* Slot(wire::Envelope* e, const Enroll&) { return e->mutable_enroll(); }
wire::Hello* Slot(wire::Envelope* e, const Hello&) { return e->mutable_hello(); }
wire::Heartbeat* Slot(wire::Envelope* e, const Heartbeat&) { return e->mutable_heartbeat(); }
wire::ContributionReady* Slot(wire::Envelope* e, const ContributionReady&) {
  return e->mutable_contribution_ready();
}
wire::RequestDone* Slot(wire::Envelope* e, const RequestDone&) { return e->mutable_request_done(); }
wire::Leave* Slot(wire::Envelope* e, const Leave&) { return e->mutable_leave(); }
wire::Fetch* Slot(wire::Envelope* e, const Fetch&) { return e->mutable_fetch(); }
wire::FetchRefused* Slot(wire::Envelope* e, const FetchRefused&) {
  return e->mutable_fetch_refused();
}
wire::FetchBlob* Slot(wire::Envelope* e, const FetchBlob&) { return e->mutable_fetch_blob(); }
wire::BlobRefused* Slot(wire::Envelope* e, const BlobRefused&) { return e->mutable_blob_refused(); }
wire::BlobElsewhere* Slot(wire::Envelope* e, const BlobElsewhere&) {
  return e->mutable_blob_elsewhere();
}
wire::Refused* Slot(wire::Envelope* e, const Refused&) { return e->mutable_refused(); }
wire::Enrolled* Slot(wire::Envelope* e, const Enrolled&) { return e->mutable_enrolled(); }
wire::Welcome* Slot(wire::Envelope* e, const Welcome&) { return e->mutable_welcome(); }
wire::Assignment* Slot(wire::Envelope* e, const Assignment&) { return e->mutable_assignment(); }
wire::AdminInvite* Slot(wire::Envelope* e, const AdminInvite&) { return e->mutable_admin_invite(); }
wire::AdminRevoke* Slot(wire::Envelope* e, const AdminRevoke&) { return e->mutable_admin_revoke(); }
wire::AdminDone* Slot(wire::Envelope* e, const AdminDone&) { return e->mutable_admin_done(); }
wire::SliceReport* Slot(wire::Envelope* e, const SliceReport&) { return e->mutable_slice_report(); }
wire::AggregateHeld* Slot(wire::Envelope* e, const AggregateHeld&) {
  return e->mutable_aggregate_held();
}

template <class Struct, class WireMessage>
absl::Status BodyFromProto(const WireMessage& in, Message* out) {
  return FromProto(in, &out->emplace<Struct>());
}

absl::Status BodyFromProto(const wire::Envelope& in, Message* out) {
  switch (in.body_case()) {
    case wire::Envelope::kEnroll:
      return BodyFromProto<Enroll>(in.enroll(), out);
    case wire::Envelope::kHello:
      return BodyFromProto<Hello>(in.hello(), out);
    case wire::Envelope::kHeartbeat:
      return BodyFromProto<Heartbeat>(in.heartbeat(), out);
    case wire::Envelope::kContributionReady:
      return BodyFromProto<ContributionReady>(in.contribution_ready(), out);
    case wire::Envelope::kRequestDone:
      return BodyFromProto<RequestDone>(in.request_done(), out);
    case wire::Envelope::kLeave:
      return BodyFromProto<Leave>(in.leave(), out);
    case wire::Envelope::kFetch:
      return BodyFromProto<Fetch>(in.fetch(), out);
    case wire::Envelope::kFetchRefused:
      return BodyFromProto<FetchRefused>(in.fetch_refused(), out);
    case wire::Envelope::kFetchBlob:
      return BodyFromProto<FetchBlob>(in.fetch_blob(), out);
    case wire::Envelope::kBlobRefused:
      return BodyFromProto<BlobRefused>(in.blob_refused(), out);
    case wire::Envelope::kRefused:
      return BodyFromProto<Refused>(in.refused(), out);
    case wire::Envelope::kEnrolled:
      return BodyFromProto<Enrolled>(in.enrolled(), out);
    case wire::Envelope::kWelcome:
      return BodyFromProto<Welcome>(in.welcome(), out);
    case wire::Envelope::kAssignment:
      return BodyFromProto<Assignment>(in.assignment(), out);
    case wire::Envelope::kAdminInvite:
      return BodyFromProto<AdminInvite>(in.admin_invite(), out);
    case wire::Envelope::kAdminRevoke:
      return BodyFromProto<AdminRevoke>(in.admin_revoke(), out);
    case wire::Envelope::kAdminDone:
      return BodyFromProto<AdminDone>(in.admin_done(), out);
    case wire::Envelope::kSliceReport:
      return BodyFromProto<SliceReport>(in.slice_report(), out);
    case wire::Envelope::kAggregateHeld:
      return BodyFromProto<AggregateHeld>(in.aggregate_held(), out);
    case wire::Envelope::kBlobElsewhere:
      return BodyFromProto<BlobElsewhere>(in.blob_elsewhere(), out);
    case wire::Envelope::BODY_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a control message without a known body");
}

// The same list limits as on receipt: never send what the other side must refuse.
bool WithinListLimits(const Message& body) {
  if (const auto* m = std::get_if<Heartbeat>(&body)) {
    return m->fragments.size() <= kMaxFragmentsPerMessage && m->links.size() <= kMaxPeers;
  }
  if (const auto* m = std::get_if<ContributionReady>(&body)) {
    return m->leases.size() <= kMaxLeasesPerMessage && m->slices.size() <= kMaxSlices;
  }
  if (const auto* m = std::get_if<SliceReport>(&body)) {
    return m->held.size() <= kMaxReduceMembers && m->lost.size() <= kMaxReduceMembers &&
           m->refused.size() <= kMaxReduceMembers;
  }
  if (const auto* m = std::get_if<BlobElsewhere>(&body))
    return m->holders.size() <= kMaxBlobHolders;
  if (const auto* m = std::get_if<Fetch>(&body)) return m->missing.size() <= kMaxMissingRuns;
  const auto* m = std::get_if<Assignment>(&body);
  if (m == nullptr) return true;
  return m->current.size() <= kMaxFragmentsPerMessage &&
         m->snapshots.size() <= kMaxFragmentsPerMessage &&
         m->commits.size() <= kMaxCommitsPerMessage &&
         m->rounds.size() <= kMaxFragmentsPerMessage &&
         m->outcomes.size() <= kMaxFragmentsPerMessage &&
         m->leases.size() <= kMaxLeasesPerMessage && m->requests.size() <= kMaxRequestsPerMessage &&
         m->peers.size() <= kMaxPeers && m->orders.size() <= kMaxOrders &&
         m->aggregates.size() <= kMaxFragmentsPerMessage;
}

bool Parse(ByteSpan bytes, wire::Envelope* out) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  in.SetRecursionLimit(kMaxNesting);
  return out->ParseFromCodedStream(&in) && in.ConsumedEntireMessage();
}

}  // namespace

absl::StatusOr<std::string> EncodeEnvelope(const Envelope& envelope) {
  if (!WithinListLimits(envelope.body)) {
    return absl::ResourceExhaustedError("a control message has more list entries than allowed");
  }
  wire::Envelope out;
  out.set_protocol_version(envelope.protocol_version);
  out.set_run(envelope.run);
  ToProto(envelope.generation, out.mutable_generation());
  out.set_session(envelope.session.value);
  out.set_sequence(envelope.sequence);
  std::visit([&out](const auto& body) { ToProto(body, Slot(&out, body)); }, envelope.body);
  if (out.ByteSizeLong() > kMaxControlBytes) {
    return absl::ResourceExhaustedError("a control message is longer than 64 KiB");
  }
  return out.SerializeAsString();
}

absl::StatusOr<Envelope> DecodeEnvelope(ByteSpan bytes) {
  if (bytes.size() > kMaxControlBytes) {
    return absl::InvalidArgumentError("a control message is longer than 64 KiB");
  }
  wire::Envelope in;
  if (!Parse(bytes, &in)) return absl::InvalidArgumentError("not a control message");
  Envelope out;
  out.protocol_version = in.protocol_version();
  out.run = in.run();
  RETURN_IF_ERROR(FromProto(in.generation(), &out.generation));
  out.session = {in.session()};
  out.sequence = in.sequence();
  const absl::Status body = BodyFromProto(in, &out.body);
  if (!body.ok()) {
    // Another release may well say what this one cannot read; it is told so by its version.
    if (out.protocol_version == kProtocolVersion || out.protocol_version == 0) return body;
    out.body = Message{};
  }
  return out;
}

}  // namespace longhaul
