#include <cstring>

#include "common/status_macros.h"
#include "proto/codec_parts.h"

namespace longhaul {

void ToProto(const Generation& in, wire::Generation* out) {
  out->set_counter(in.counter);
  out->set_random(in.random);
}

absl::Status FromProto(const wire::Generation& in, Generation* out) {
  *out = {in.counter(), in.random()};
  return absl::OkStatus();
}

void ToProto(const ProcessId& in, wire::ProcessId* out) {
  out->set_high(in.high);
  out->set_low(in.low);
}

absl::Status FromProto(const wire::ProcessId& in, ProcessId* out) {
  *out = {in.high(), in.low()};
  return absl::OkStatus();
}

void ToProto(const ContributionId& in, wire::ContributionId* out) {
  out->set_session(in.session.value);
  out->set_sequence(in.sequence);
}

absl::Status FromProto(const wire::ContributionId& in, ContributionId* out) {
  *out = {{in.session()}, in.sequence()};
  return absl::OkStatus();
}

void ToProto(const ObjectId& in, wire::ObjectId* out) {
  out->set_kind(static_cast<wire::ObjectKind>(in.kind));
  ToProto(in.generation, out->mutable_generation());
  out->set_fragment(in.fragment.value);
  out->set_version(in.version.value);
  ToProto(in.contribution, out->mutable_contribution());
  out->set_first_chunk(in.first_chunk);
}

absl::Status FromProto(const wire::ObjectId& in, ObjectId* out) {
  RETURN_IF_ERROR(EnumFromProto(in.kind(), ObjectKind::kState, &out->kind));
  RETURN_IF_ERROR(FromProto(in.generation(), &out->generation));
  out->fragment = {in.fragment()};
  out->version = {in.version()};
  out->first_chunk = in.first_chunk();
  return FromProto(in.contribution(), &out->contribution);
}

void ToProto(const ObjectInfo& in, wire::ObjectInfo* out) {
  ToProto(in.id, out->mutable_id());
  out->set_chunks(in.chunks);
  out->set_bytes(in.bytes);
  out->set_root(BytesOf(in.root));
}

absl::Status FromProto(const wire::ObjectInfo& in, ObjectInfo* out) {
  RETURN_IF_ERROR(FromProto(in.id(), &out->id));
  out->chunks = in.chunks();
  out->bytes = in.bytes();
  return FixedFromBytes(in.root(), &out->root);
}

void ToProto(const LeaseRange& in, wire::LeaseRange* out) {
  out->set_fence(in.fence.value);
  out->set_from(in.from);
  out->set_to(in.to);
}

absl::Status FromProto(const wire::LeaseRange& in, LeaseRange* out) {
  *out = {{in.fence()}, in.from(), in.to()};
  return absl::OkStatus();
}

void ToProto(const FragmentState& in, wire::FragmentState* out) {
  out->set_fragment(in.fragment.value);
  out->set_version(in.version.value);
  out->set_state_hash(BytesOf(in.state_hash));
}

absl::Status FromProto(const wire::FragmentState& in, FragmentState* out) {
  out->fragment = {in.fragment()};
  out->version = {in.version()};
  return FixedFromBytes(in.state_hash(), &out->state_hash);
}

void ToProto(const SlicePart& in, wire::SlicePart* out) {
  out->set_chunks(in.chunks);
  out->set_bytes(in.bytes);
  out->set_root(BytesOf(in.root));
}

absl::Status FromProto(const wire::SlicePart& in, SlicePart* out) {
  out->chunks = in.chunks();
  out->bytes = in.bytes();
  return FixedFromBytes(in.root(), &out->root);
}

}  // namespace longhaul
