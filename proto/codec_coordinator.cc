// What the coordinator says.
#include <cstring>

#include "common/status_macros.h"
#include "proto/codec.h"
#include "proto/codec_parts.h"

namespace longhaul {

// Not in an unnamed namespace: argument-dependent lookup from the list helpers would not find it.

// On the wire only durations travel, and never negative ones.
static absl::Status DurationFromProto(uint64_t in_ns, Duration* out) {
  if (in_ns > static_cast<uint64_t>(INT64_MAX)) {
    return absl::InvalidArgumentError("a duration is out of range");
  }
  *out = Duration(static_cast<int64_t>(in_ns));
  return absl::OkStatus();
}

static void ToProto(const RoundView& in, wire::RoundView* out) {
  out->set_round(in.round.value);
  out->set_fragment(in.fragment.value);
  out->set_base(in.base.value);
  out->set_own_steps(in.own_steps);
  for (uint32_t chunks : in.slices) out->add_slices(chunks);
}

static absl::Status FromProto(const wire::RoundView& in, RoundView* out) {
  if (in.slices_size() > static_cast<int>(kMaxSlices))
    return absl::InvalidArgumentError("more list entries than allowed");
  *out = {{in.round()},
          {in.fragment()},
          {in.base()},
          in.own_steps(),
          {in.slices().begin(), in.slices().end()}};
  return absl::OkStatus();
}

static void ToProto(const PeerView& in, wire::PeerView* out) {
  out->set_session(in.session.value);
  out->set_key(BytesOf(in.key.bytes));
  out->set_address(in.address);
}

static absl::Status FromProto(const wire::PeerView& in, PeerView* out) {
  out->session = {in.session()};
  out->address = in.address();
  return FixedFromBytes(in.key(), &out->key.bytes);
}

static void ToProto(const SliceContribution& in, wire::SliceContribution* out) {
  ToProto(in.id, out->mutable_id());
  out->set_bytes(in.bytes);
  out->set_root(BytesOf(in.root));
  out->set_weight(in.weight);
}

static absl::Status FromProto(const wire::SliceContribution& in, SliceContribution* out) {
  RETURN_IF_ERROR(FromProto(in.id(), &out->id));
  out->bytes = in.bytes();
  out->weight = in.weight();
  return FixedFromBytes(in.root(), &out->root);
}

static void ToProto(const SliceOrder& in, wire::SliceOrder* out) {
  out->set_round(in.round.value);
  out->set_fragment(in.fragment.value);
  out->set_base(in.base.value);
  out->set_slice(in.slice);
  out->set_first_chunk(in.first_chunk);
  out->set_chunks(in.chunks);
  out->set_continues(in.continues);
  ListToProto(in.contributions, out->mutable_contributions());
  out->set_attempt(in.attempt);
  ListToProto(in.included, out->mutable_included());
  out->set_divisor(in.divisor);
}

static absl::Status FromProto(const wire::SliceOrder& in, SliceOrder* out) {
  out->round = {in.round()};
  out->fragment = {in.fragment()};
  out->base = {in.base()};
  out->slice = in.slice();
  out->first_chunk = in.first_chunk();
  out->chunks = in.chunks();
  out->continues = in.continues();
  RETURN_IF_ERROR(ListFromProto(in.contributions(), kMaxReduceMembers, &out->contributions));
  out->attempt = in.attempt();
  RETURN_IF_ERROR(ListFromProto(in.included(), kMaxReduceMembers, &out->included));
  out->divisor = in.divisor();
  return absl::OkStatus();
}

static void ToProto(const SliceSource& in, wire::SliceSource* out) {
  ToProto(in.part, out->mutable_part());
  out->set_reducer(BytesOf(in.reducer.bytes));
}

static absl::Status FromProto(const wire::SliceSource& in, SliceSource* out) {
  RETURN_IF_ERROR(FromProto(in.part(), &out->part));
  return FixedFromBytes(in.reducer(), &out->reducer.bytes);
}

static void ToProto(const AggregateView& in, wire::AggregateView* out) {
  ToProto(in.object, out->mutable_object());
  ListToProto(in.slices, out->mutable_slices());
}

static absl::Status FromProto(const wire::AggregateView& in, AggregateView* out) {
  RETURN_IF_ERROR(FromProto(in.object(), &out->object));
  return ListFromProto(in.slices(), kMaxSlices, &out->slices);
}

static void ToProto(const CommitView& in, wire::CommitView* out) {
  out->set_round(in.round.value);
  out->set_attempt(in.attempt);
  out->set_fragment(in.fragment.value);
  out->set_version(in.version.value);
  ToProto(in.aggregate, out->mutable_aggregate());
  out->set_outer_lr_bits(in.outer_lr_bits);
  out->set_outer_momentum_bits(in.outer_momentum_bits);
  out->set_state_hash(BytesOf(in.state_hash));
}

static absl::Status FromProto(const wire::CommitView& in, CommitView* out) {
  out->round = {in.round()};
  out->attempt = in.attempt();
  out->fragment = {in.fragment()};
  out->version = {in.version()};
  RETURN_IF_ERROR(FromProto(in.aggregate(), &out->aggregate));
  out->outer_lr_bits = in.outer_lr_bits();
  out->outer_momentum_bits = in.outer_momentum_bits();
  return FixedFromBytes(in.state_hash(), &out->state_hash);
}

static void ToProto(const OutcomeView& in, wire::OutcomeView* out) {
  out->set_fragment(in.fragment.value);
  out->set_decided(in.decided.value);
  ToProto(in.included, out->mutable_included());
  ToProto(in.dropped, out->mutable_dropped());
}

static absl::Status FromProto(const wire::OutcomeView& in, OutcomeView* out) {
  out->fragment = {in.fragment()};
  out->decided = {in.decided()};
  RETURN_IF_ERROR(FromProto(in.included(), &out->included));
  return FromProto(in.dropped(), &out->dropped);
}

static void ToProto(const WorkRequest& in, wire::WorkRequest* out) {
  out->set_id(in.id.value);
  out->set_kind(static_cast<wire::RequestKind>(in.kind));
  out->set_version(in.version.value);
  out->set_prompt(in.prompt);
  out->set_tokens(in.tokens);
}

static absl::Status FromProto(const wire::WorkRequest& in, WorkRequest* out) {
  out->id = {in.id()};
  RETURN_IF_ERROR(EnumFromProto(in.kind(), RequestKind::kSample, &out->kind));
  out->version = {in.version()};
  out->prompt = in.prompt();
  out->tokens = in.tokens();
  return absl::OkStatus();
}

void ToProto(const Refused& in, wire::Refused* out) {
  out->set_code(static_cast<wire::RefusalCode>(in.code));
  out->set_reason(in.reason);
}

absl::Status FromProto(const wire::Refused& in, Refused* out) {
  out->reason = in.reason();
  return EnumFromProto(in.code(), RefusalCode::kWrongGeneration, &out->code);
}

void ToProto(const Enrolled&, wire::Enrolled*) {}

absl::Status FromProto(const wire::Enrolled&, Enrolled*) { return absl::OkStatus(); }

void ToProto(const Welcome& in, wire::Welcome* out) {
  out->set_session(in.session.value);
  ToProto(in.process, out->mutable_process());
  out->set_config(EncodeRunConfig(in.config));
  out->set_data_identity(BytesOf(in.data_identity));
  out->set_parameters(in.parameters);
  out->set_heartbeat_every_ns(static_cast<uint64_t>(in.heartbeat_every.count()));
  out->set_silence_limit_ns(static_cast<uint64_t>(in.silence_limit.count()));
  out->set_keep_residual(in.keep_residual);
  out->set_manifest_id(BytesOf(in.manifest_id));
  out->set_manifest_bytes(in.manifest_bytes);
}

absl::Status FromProto(const wire::Welcome& in, Welcome* out) {
  out->session = {in.session()};
  RETURN_IF_ERROR(FromProto(in.process(), &out->process));
  ASSIGN_OR_RETURN(out->config, DecodeRunConfig(AsBytes(in.config())));
  RETURN_IF_ERROR(FixedFromBytes(in.data_identity(), &out->data_identity));
  out->parameters = in.parameters();
  RETURN_IF_ERROR(DurationFromProto(in.heartbeat_every_ns(), &out->heartbeat_every));
  out->keep_residual = in.keep_residual();
  RETURN_IF_ERROR(FixedFromBytes(in.manifest_id(), &out->manifest_id));
  out->manifest_bytes = in.manifest_bytes();
  return DurationFromProto(in.silence_limit_ns(), &out->silence_limit);
}

void ToProto(const Assignment& in, wire::Assignment* out) {
  out->set_phase(static_cast<wire::Phase>(in.phase));
  out->set_reason(in.reason);
  ListToProto(in.current, out->mutable_current());
  ListToProto(in.snapshots, out->mutable_snapshots());
  ListToProto(in.commits, out->mutable_commits());
  ListToProto(in.rounds, out->mutable_rounds());
  ListToProto(in.outcomes, out->mutable_outcomes());
  ListToProto(in.leases, out->mutable_leases());
  ListToProto(in.requests, out->mutable_requests());
  ListToProto(in.peers, out->mutable_peers());
  ListToProto(in.orders, out->mutable_orders());
  ListToProto(in.aggregates, out->mutable_aggregates());
}

absl::Status FromProto(const wire::Assignment& in, Assignment* out) {
  RETURN_IF_ERROR(EnumFromProto(in.phase(), Phase::kLeft, &out->phase));
  out->reason = in.reason();
  RETURN_IF_ERROR(ListFromProto(in.current(), kMaxFragmentsPerMessage, &out->current));
  RETURN_IF_ERROR(ListFromProto(in.snapshots(), kMaxFragmentsPerMessage, &out->snapshots));
  RETURN_IF_ERROR(ListFromProto(in.commits(), kMaxCommitsPerMessage, &out->commits));
  RETURN_IF_ERROR(ListFromProto(in.rounds(), kMaxFragmentsPerMessage, &out->rounds));
  RETURN_IF_ERROR(ListFromProto(in.outcomes(), kMaxFragmentsPerMessage, &out->outcomes));
  RETURN_IF_ERROR(ListFromProto(in.leases(), kMaxLeasesPerMessage, &out->leases));
  RETURN_IF_ERROR(ListFromProto(in.requests(), kMaxRequestsPerMessage, &out->requests));
  RETURN_IF_ERROR(ListFromProto(in.peers(), kMaxPeers, &out->peers));
  RETURN_IF_ERROR(ListFromProto(in.orders(), kMaxOrders, &out->orders));
  return ListFromProto(in.aggregates(), kMaxFragmentsPerMessage, &out->aggregates);
}

void ToProto(const BlobElsewhere& in, wire::BlobElsewhere* out) {
  out->set_transfer(in.transfer);
  ListToProto(in.holders, out->mutable_holders());
}

absl::Status FromProto(const wire::BlobElsewhere& in, BlobElsewhere* out) {
  out->transfer = in.transfer();
  return ListFromProto(in.holders(), kMaxBlobHolders, &out->holders);
}

}  // namespace longhaul
