#include "common/status_macros.h"
#include "proto/codec_parts.h"

namespace longhaul {

void ToProto(const AdminInvite& in, wire::AdminInvite* out) {
  out->set_invitation(in.invitation);
  out->set_one_off_key(BytesOf(in.one_off_key.bytes));
  out->set_expires_unix_s(in.expires_unix_s);
  out->set_uses(in.uses);
}

absl::Status FromProto(const wire::AdminInvite& in, AdminInvite* out) {
  out->invitation = in.invitation();
  RETURN_IF_ERROR(FixedFromBytes(in.one_off_key(), &out->one_off_key.bytes));
  out->expires_unix_s = in.expires_unix_s();
  out->uses = in.uses();
  return absl::OkStatus();
}

void ToProto(const AdminRevoke& in, wire::AdminRevoke* out) { out->set_invitation(in.invitation); }

absl::Status FromProto(const wire::AdminRevoke& in, AdminRevoke* out) {
  out->invitation = in.invitation();
  return absl::OkStatus();
}

void ToProto(const AdminDone& in, wire::AdminDone* out) { out->set_error(in.error); }

absl::Status FromProto(const wire::AdminDone& in, AdminDone* out) {
  out->error = in.error();
  return absl::OkStatus();
}

}  // namespace longhaul
