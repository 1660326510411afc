#include "transport/keys.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul {

namespace {

static_assert(crypto_box_PUBLICKEYBYTES == 32 && crypto_box_SECRETKEYBYTES == 32);
static_assert(crypto_sign_SEEDBYTES == 32 && crypto_sign_PUBLICKEYBYTES == 32 &&
              crypto_sign_BYTES == 64);

constexpr std::string_view kCurveTag = "longhaul-curve-secret-1 ";
constexpr std::string_view kSigningTag = "longhaul-ed25519-seed-1 ";
constexpr size_t kZ85KeyChars = 40;
constexpr size_t kMaxKeyFileBytes = 256;

using KeyBytes = std::array<uint8_t, 32>;

KeyBytes RandomBytes() {
  LONGHAUL_CHECK(sodium_init() >= 0, "no source of random numbers");
  KeyBytes out;
  randombytes_buf(out.data(), out.size());
  return out;
}

absl::Status FileError(const std::string& path, const char* what) {
  const int error = errno;
  const std::string text = absl::StrCat(what, " ", path, ": ", std::strerror(error));
  if (error == ENOENT) return absl::NotFoundError(text);
  if (error == EEXIST) return absl::AlreadyExistsError(text);
  if (error == EACCES || error == ELOOP) return absl::PermissionDeniedError(text);
  return absl::InternalError(text);
}

// An open file descriptor.
struct File {
  int fd;
  ~File() {
    if (fd >= 0) close(fd);
  }
};

absl::Status SyncFolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  std::string folder = ".";
  if (slash != std::string::npos) folder = slash == 0 ? "/" : path.substr(0, slash);
  File file{open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (file.fd < 0 || fsync(file.fd) != 0) return FileError(folder, "cannot sync folder");
  return absl::OkStatus();
}

absl::Status WriteNewFile(const std::string& path, const std::string& text) {
  File file{open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (file.fd < 0) return FileError(path, "cannot create key file");
  const ssize_t written = write(file.fd, text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size()) && fsync(file.fd) == 0) return absl::OkStatus();
  return FileError(path, "cannot write key file");
}

// Whole or not at all: the name is given to a file that is complete. A link, which replaces
// nothing; a rename where the file system knows no links.
absl::Status WriteSecret(const std::string& path, std::string_view tag, const KeyBytes& secret) {
  if (access(path.c_str(), F_OK) == 0) {
    errno = EEXIST;
    return FileError(path, "cannot create key file");
  }
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  absl::Status status = WriteNewFile(temporary, std::string(tag) + ToZ85(secret) + "\n");
  if (status.ok() && link(temporary.c_str(), path.c_str()) != 0) {
    const bool no_links = errno == EPERM || errno == EOPNOTSUPP;
    if (!no_links || rename(temporary.c_str(), path.c_str()) != 0)
      status = FileError(path, "cannot create key file");
  }
  unlink(temporary.c_str());
  return status.ok() ? SyncFolderOf(path) : status;
}

absl::Status CheckMode(const std::string& path, int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return FileError(path, "cannot read key file");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  if ((info.st_mode & 077) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("others may read the key file ", path, "; run: chmod 600 ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<KeyBytes> ReadSecret(const std::string& path, std::string_view tag) {
  File file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return FileError(path, "cannot read key file");
  RETURN_IF_ERROR(CheckMode(path, file.fd));
  char buffer[kMaxKeyFileBytes];
  const ssize_t size = read(file.fd, buffer, sizeof buffer);
  if (size < 0) return FileError(path, "cannot read key file");
  std::string_view text(buffer, static_cast<size_t>(size));
  if (text.ends_with('\n')) text.remove_suffix(1);
  const auto wrong = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a key file (", std::string(tag), "...)"));
  };
  if (!text.starts_with(tag)) return wrong();
  auto secret = FromZ85(text.substr(tag.size()));
  sodium_memzero(buffer, sizeof buffer);
  if (!secret.ok()) return wrong();
  return *secret;
}

}  // namespace

CurveKeyPair CurveKeyPair::Generate() { return FromSecret(RandomBytes()); }

CurveKeyPair CurveKeyPair::FromSecret(const std::array<uint8_t, 32>& secret) {
  CurveKeyPair keys;
  keys.secret = secret;
  crypto_scalarmult_base(keys.public_key.bytes.data(), keys.secret.data());
  return keys;
}

std::string ToZ85(const std::array<uint8_t, 32>& key) {
  char text[kZ85KeyChars + 1];
  LONGHAUL_CHECK(zmq_z85_encode(text, key.data(), key.size()) != nullptr, "Z85");
  return text;
}

absl::StatusOr<std::array<uint8_t, 32>> FromZ85(std::string_view text) {
  std::array<uint8_t, 32> out;
  // Encoding again refuses what the decoder lets through: characters outside the alphabet and
  // groups above 2^32.
  if (text.size() != kZ85KeyChars ||
      zmq_z85_decode(out.data(), std::string(text).c_str()) == nullptr || ToZ85(out) != text) {
    return absl::InvalidArgumentError("not a key: 40 characters of Z85 are needed");
  }
  return out;
}

SigningKeyPair SigningKeyPair::Generate() { return FromSeed(RandomBytes()); }

SigningKeyPair SigningKeyPair::FromSeed(const std::array<uint8_t, 32>& seed) {
  SigningKeyPair keys;
  keys.seed = seed;
  uint8_t expanded[crypto_sign_SECRETKEYBYTES];
  crypto_sign_seed_keypair(keys.public_key.data(), expanded, keys.seed.data());
  sodium_memzero(expanded, sizeof expanded);
  return keys;
}

Signature SigningKeyPair::Sign(ByteSpan message) const {
  uint8_t ignored[crypto_sign_PUBLICKEYBYTES];
  uint8_t expanded[crypto_sign_SECRETKEYBYTES];
  crypto_sign_seed_keypair(ignored, expanded, seed.data());
  Signature out;
  crypto_sign_detached(out.data(), nullptr, reinterpret_cast<const uint8_t*>(message.data()),
                       message.size(), expanded);
  sodium_memzero(expanded, sizeof expanded);
  return out;
}

bool VerifySignature(const std::array<uint8_t, 32>& public_key, ByteSpan message,
                     const Signature& signature) {
  return crypto_sign_verify_detached(signature.data(),
                                     reinterpret_cast<const uint8_t*>(message.data()),
                                     message.size(), public_key.data()) == 0;
}

absl::Status WriteKeyFile(const std::string& path, const CurveKeyPair& keys) {
  return WriteSecret(path, kCurveTag, keys.secret);
}

absl::Status WriteKeyFile(const std::string& path, const SigningKeyPair& keys) {
  return WriteSecret(path, kSigningTag, keys.seed);
}

absl::StatusOr<CurveKeyPair> ReadCurveKeyFile(const std::string& path) {
  ASSIGN_OR_RETURN(const KeyBytes secret, ReadSecret(path, kCurveTag));
  return CurveKeyPair::FromSecret(secret);
}

absl::StatusOr<SigningKeyPair> ReadSigningKeyFile(const std::string& path) {
  ASSIGN_OR_RETURN(const KeyBytes seed, ReadSecret(path, kSigningTag));
  return SigningKeyPair::FromSeed(seed);
}

}  // namespace longhaul
