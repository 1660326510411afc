// What workers say, and what both sides say.
#include <cstring>

#include "common/status_macros.h"
#include "proto/codec_parts.h"

namespace longhaul {

void ToProto(const Enroll& in, wire::Enroll* out) {
  out->set_invitation(in.invitation);
  out->set_key(BytesOf(in.key.bytes));
  out->set_ed25519_public(BytesOf(in.ed25519_public));
  out->set_signature(BytesOf(in.signature));
  out->set_name(in.name);
}

absl::Status FromProto(const wire::Enroll& in, Enroll* out) {
  out->invitation = in.invitation();
  RETURN_IF_ERROR(FixedFromBytes(in.key(), &out->key.bytes));
  RETURN_IF_ERROR(FixedFromBytes(in.ed25519_public(), &out->ed25519_public));
  RETURN_IF_ERROR(FixedFromBytes(in.signature(), &out->signature));
  out->name = in.name();
  return absl::OkStatus();
}

void ToProto(const Hello& in, wire::Hello* out) {
  ToProto(in.process, out->mutable_process());
  out->set_name(in.name);
  out->set_software(in.software);
  out->set_memory_bytes(in.memory_bytes);
  out->set_threads(in.threads);
  out->set_toy(in.toy);
  out->set_data_identity(BytesOf(in.data_identity));
  out->set_data_origin(in.data_origin);
  ToProto(in.saved_generation, out->mutable_saved_generation());
  ListToProto(in.saved_included, out->mutable_saved_included());
  out->set_peer_address(in.peer_address);
}

absl::Status FromProto(const wire::Hello& in, Hello* out) {
  RETURN_IF_ERROR(FromProto(in.process(), &out->process));
  out->name = in.name();
  out->software = in.software();
  out->memory_bytes = in.memory_bytes();
  out->threads = in.threads();
  out->toy = in.toy();
  RETURN_IF_ERROR(FixedFromBytes(in.data_identity(), &out->data_identity));
  out->data_origin = in.data_origin();
  RETURN_IF_ERROR(FromProto(in.saved_generation(), &out->saved_generation));
  out->peer_address = in.peer_address();
  return ListFromProto(in.saved_included(), kMaxFragmentsPerMessage, &out->saved_included);
}

static void ToProto(const PeerLink& in, wire::PeerLink* out) {
  out->set_key(BytesOf(in.key.bytes));
  out->set_direct(in.direct);
  out->set_bytes_per_s(in.bytes_per_s);
}

static absl::Status FromProto(const wire::PeerLink& in, PeerLink* out) {
  out->direct = in.direct();
  out->bytes_per_s = in.bytes_per_s();
  return FixedFromBytes(in.key(), &out->key.bytes);
}

void ToProto(const Heartbeat& in, wire::Heartbeat* out) {
  ListToProto(in.fragments, out->mutable_fragments());
  out->set_steps(in.steps);
  out->set_computing_ns(in.computing_ns);
  out->set_total_ns(in.total_ns);
  out->set_loss(in.loss);
  out->set_bytes_sent(in.bytes_sent);
  out->set_bytes_received(in.bytes_received);
  out->set_up_bytes_per_s(in.up_bytes_per_s);
  ListToProto(in.links, out->mutable_links());
}

absl::Status FromProto(const wire::Heartbeat& in, Heartbeat* out) {
  RETURN_IF_ERROR(ListFromProto(in.fragments(), kMaxFragmentsPerMessage, &out->fragments));
  out->steps = in.steps();
  out->computing_ns = in.computing_ns();
  out->total_ns = in.total_ns();
  out->loss = in.loss();
  out->bytes_sent = in.bytes_sent();
  out->bytes_received = in.bytes_received();
  out->up_bytes_per_s = in.up_bytes_per_s();
  return ListFromProto(in.links(), kMaxPeers, &out->links);
}

void ToProto(const ContributionReady& in, wire::ContributionReady* out) {
  ToProto(in.object, out->mutable_object());
  out->set_round(in.round.value);
  out->set_base_hash(BytesOf(in.base_hash));
  ListToProto(in.leases, out->mutable_leases());
  out->set_steps(in.steps);
  out->set_loss(in.loss);
  ListToProto(in.slices, out->mutable_slices());
}

absl::Status FromProto(const wire::ContributionReady& in, ContributionReady* out) {
  RETURN_IF_ERROR(FromProto(in.object(), &out->object));
  out->round = {in.round()};
  RETURN_IF_ERROR(FixedFromBytes(in.base_hash(), &out->base_hash));
  RETURN_IF_ERROR(ListFromProto(in.leases(), kMaxLeasesPerMessage, &out->leases));
  out->steps = in.steps();
  out->loss = in.loss();
  return ListFromProto(in.slices(), kMaxSlices, &out->slices);
}

void ToProto(const SliceReport& in, wire::SliceReport* out) {
  out->set_round(in.round.value);
  out->set_fragment(in.fragment.value);
  out->set_slice(in.slice);
  ListToProto(in.held, out->mutable_held());
  ListToProto(in.lost, out->mutable_lost());
  ListToProto(in.refused, out->mutable_refused());
  out->set_reason(in.reason);
  out->set_attempt(in.attempt);
  if (in.attempt != 0) ToProto(in.aggregate, out->mutable_aggregate());
  out->set_failed(in.failed);
}

absl::Status FromProto(const wire::SliceReport& in, SliceReport* out) {
  out->round = {in.round()};
  out->fragment = {in.fragment()};
  out->slice = in.slice();
  RETURN_IF_ERROR(ListFromProto(in.held(), kMaxReduceMembers, &out->held));
  RETURN_IF_ERROR(ListFromProto(in.lost(), kMaxReduceMembers, &out->lost));
  RETURN_IF_ERROR(ListFromProto(in.refused(), kMaxReduceMembers, &out->refused));
  out->reason = in.reason();
  out->attempt = in.attempt();
  if (in.attempt() != 0) RETURN_IF_ERROR(FromProto(in.aggregate(), &out->aggregate));
  out->failed = in.failed();
  return absl::OkStatus();
}

void ToProto(const AggregateHeld& in, wire::AggregateHeld* out) {
  ToProto(in.object, out->mutable_object());
}

absl::Status FromProto(const wire::AggregateHeld& in, AggregateHeld* out) {
  return FromProto(in.object(), &out->object);
}

void ToProto(const RequestDone& in, wire::RequestDone* out) {
  out->set_request(in.request.value);
  out->set_loss(in.loss);
  out->set_tokens(in.tokens);
  out->set_text(in.text);
  out->set_error(in.error);
}

absl::Status FromProto(const wire::RequestDone& in, RequestDone* out) {
  *out = {{in.request()}, in.loss(), in.tokens(), in.text(), in.error()};
  return absl::OkStatus();
}

void ToProto(const Leave& in, wire::Leave* out) {
  out->set_reason(in.reason);
  out->set_hand_in(in.hand_in);
}

absl::Status FromProto(const wire::Leave& in, Leave* out) {
  out->reason = in.reason();
  out->hand_in = in.hand_in();
  return absl::OkStatus();
}

static void ToProto(const ChunkRun& in, wire::ChunkRun* out) {
  out->set_first(in.first);
  out->set_count(in.count);
}

static absl::Status FromProto(const wire::ChunkRun& in, ChunkRun* out) {
  *out = {in.first(), in.count()};
  return absl::OkStatus();
}

void ToProto(const Fetch& in, wire::Fetch* out) {
  ToProto(in.object, out->mutable_object());
  out->set_attempt(in.attempt);
  ListToProto(in.missing, out->mutable_missing());
  out->set_granted_bytes(in.granted_bytes);
}

absl::Status FromProto(const wire::Fetch& in, Fetch* out) {
  RETURN_IF_ERROR(FromProto(in.object(), &out->object));
  out->attempt = in.attempt();
  RETURN_IF_ERROR(ListFromProto(in.missing(), kMaxMissingRuns, &out->missing));
  out->granted_bytes = in.granted_bytes();
  return absl::OkStatus();
}

void ToProto(const FetchRefused& in, wire::FetchRefused* out) {
  ToProto(in.object, out->mutable_object());
  out->set_reason(in.reason);
}

absl::Status FromProto(const wire::FetchRefused& in, FetchRefused* out) {
  out->reason = in.reason();
  return FromProto(in.object(), &out->object);
}

void ToProto(const FetchBlob& in, wire::FetchBlob* out) {
  out->set_transfer(in.transfer);
  out->set_blob_id(BytesOf(in.blob_id));
  out->set_offset(in.offset);
  out->set_bytes(in.bytes);
  out->set_urgent(in.urgent);
  out->set_direct(in.direct);
}

absl::Status FromProto(const wire::FetchBlob& in, FetchBlob* out) {
  if (in.bytes() > kMaxBlobPartBytes)
    return absl::InvalidArgumentError("a part of a blob is too long");
  out->transfer = in.transfer();
  out->offset = in.offset();
  out->bytes = in.bytes();
  out->urgent = in.urgent();
  out->direct = in.direct();
  return FixedFromBytes(in.blob_id(), &out->blob_id);
}

void ToProto(const BlobRefused& in, wire::BlobRefused* out) {
  out->set_transfer(in.transfer);
  out->set_reason(in.reason);
}

absl::Status FromProto(const wire::BlobRefused& in, BlobRefused* out) {
  out->transfer = in.transfer();
  out->reason = in.reason();
  return absl::OkStatus();
}

}  // namespace longhaul
