#include "pcn/rules/image_files.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace longhaul::pcn {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 30;
constexpr size_t kIdxImagesHeader = 16, kIdxLabelsHeader = 8;

struct ClosePipe {
  void operator()(FILE* pipe) const { ::pclose(pipe); }
};

absl::StatusOr<std::string> Unpack(const std::string& path) {
  if (!std::filesystem::exists(path)) return absl::NotFoundError("no file " + path);
  if (path.find('\'') != std::string::npos) return absl::InvalidArgumentError("a quote in a path");
  const std::unique_ptr<FILE, ClosePipe> pipe(::popen(("gzip -dc '" + path + "'").c_str(), "r"));
  if (pipe == nullptr) return absl::UnavailableError("cannot start gzip");
  std::string bytes;
  char block[1 << 16];
  for (size_t n; (n = std::fread(block, 1, sizeof block, pipe.get())) > 0;) {
    bytes.append(block, n);
    if (bytes.size() > kMaxFileBytes) return absl::DataLossError(path + " is too large");
  }
  return bytes;
}

uint8_t At(const std::string& bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

uint32_t BigEndian(const std::string& bytes, size_t i) {
  return At(bytes, i) << 24 | At(bytes, i + 1) << 16 | At(bytes, i + 2) << 8 | At(bytes, i + 3);
}

float Brightness(double value) { return static_cast<float>(value / 127.5 - 1); }

absl::Status AddIdx(const std::string& folder, const std::string& part, ImageSet& set) {
  const std::string stem = folder + "/mnist8k-" + part;
  ASSIGN_OR_RETURN(std::string images, Unpack(stem + "-images-idx3-ubyte.gz"));
  ASSIGN_OR_RETURN(std::string labels, Unpack(stem + "-labels-idx1-ubyte.gz"));
  if (images.size() < kIdxImagesHeader || BigEndian(images, 0) != 0x803 ||
      labels.size() < kIdxLabelsHeader || BigEndian(labels, 0) != 0x801) {
    return absl::DataLossError(stem + ": not IDX");
  }
  const size_t count = BigEndian(images, 4);
  const size_t pixels = size_t{BigEndian(images, 8)} * BigEndian(images, 12);
  if (BigEndian(labels, 4) != count || pixels != kDigitSide * kDigitSide ||
      images.size() != kIdxImagesHeader + count * pixels ||
      labels.size() != kIdxLabelsHeader + count) {
    return absl::DataLossError(stem + ": sizes do not match");
  }
  for (size_t i = kIdxImagesHeader; i < images.size(); ++i) {
    set.values.push_back(Brightness(At(images, i)));
  }
  for (size_t i = kIdxLabelsHeader; i < labels.size(); ++i) {
    if (At(labels, i) > 9) return absl::DataLossError(stem + ": a label above 9");
    set.labels.push_back(At(labels, i));
  }
  return absl::OkStatus();
}

// Records of a label and three planes of 32 x 32.
absl::Status AddCifar(const std::string& path, ImageSet& set) {
  constexpr size_t kSide = 32, kPlane = kSide * kSide, kRecord = 1 + 3 * kPlane, kMargin = 2;
  ASSIGN_OR_RETURN(std::string bytes, Unpack(path));
  if (bytes.empty() || bytes.size() % kRecord != 0)
    return absl::DataLossError(path + ": not CIFAR");
  for (size_t record = 0; record < bytes.size(); record += kRecord) {
    if (At(bytes, record) > 9) return absl::DataLossError(path + ": a label above 9");
    set.labels.push_back(At(bytes, record));
    for (size_t y = kMargin; y < kSide - kMargin; ++y) {
      for (size_t x = kMargin; x < kSide - kMargin; ++x) {
        const size_t first = record + 1 + y * kSide + x;
        set.values.push_back(Brightness(
            (At(bytes, first) + At(bytes, first + kPlane) + At(bytes, first + 2 * kPlane)) / 3.0));
      }
    }
  }
  return absl::OkStatus();
}

ImageSet Empty() { return {.pixels = kDigitSide * kDigitSide, .classes = 10}; }

}  // namespace

absl::StatusOr<ImageSet> LoadIdxDigits(const std::string& folder) {
  ImageSet set = Empty();
  RETURN_IF_ERROR(AddIdx(folder, "train", set));
  RETURN_IF_ERROR(AddIdx(folder, "test", set));
  return set;
}

absl::StatusOr<ImageSet> LoadGrayCifar(const std::string& folder) {
  ImageSet set = Empty();
  RETURN_IF_ERROR(AddCifar(folder + "/cifar10-10k-train.bin.gz", set));
  RETURN_IF_ERROR(AddCifar(folder + "/cifar10-2k-test.bin.gz", set));
  return set;
}

}  // namespace longhaul::pcn
