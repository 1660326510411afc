#include "cli/invitation_text.h"

#include <fstream>
#include <iterator>

namespace longhaul {

absl::StatusOr<Invitation> ReadInvitation(const std::string& argument) {
  if (argument.empty() || argument[0] != '@') return DecodeInvitation(argument);
  std::ifstream file(argument.substr(1));
  if (!file) return absl::NotFoundError("cannot read " + argument.substr(1));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return DecodeInvitation(text);
}

}  // namespace longhaul
