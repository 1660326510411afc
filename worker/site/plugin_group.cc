#include "worker/site/plugin_group.h"

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr size_t kErrorBytes = 512;

class NcclGroup final : public DeviceGroup {
 public:
  NcclGroup(const LonghaulCudaPlugin& plugin, LonghaulGroup* group, uint32_t rank, uint32_t size,
            std::function<void*()> stream)
      : plugin_(plugin), group_(group), rank_(rank), size_(size), stream_(std::move(stream)) {}
  ~NcclGroup() override { plugin_.group_free(group_); }

  uint32_t rank() const override { return rank_; }
  uint32_t size() const override { return size_; }
  void StartSum(std::span<float> values) override {
    plugin_.group_start_sum(group_, values.data(), values.size(), stream_ ? stream_() : nullptr);
  }
  absl::Status Wait() override {
    char error[kErrorBytes] = "";
    if (plugin_.group_wait(group_, error, sizeof error) == LONGHAUL_CUDA_OK) {
      return absl::OkStatus();
    }
    return absl::UnavailableError(error);
  }
  absl::Status Shrink(std::span<const uint32_t> living) override {
    char error[kErrorBytes] = "";
    if (plugin_.group_shrink(group_, living.data(), static_cast<uint32_t>(living.size()), error,
                             sizeof error) != LONGHAUL_CUDA_OK) {
      return absl::UnavailableError(absl::StrCat("the group of GPUs cannot shrink: ", error));
    }
    size_ = static_cast<uint32_t>(living.size());
    return absl::OkStatus();
  }
  void Abort() override { plugin_.group_abort(group_); }

 private:
  const LonghaulCudaPlugin& plugin_;
  LonghaulGroup* const group_;
  const uint32_t rank_;
  uint32_t size_;
  const std::function<void*()> stream_;
};

// Rank 0 draws the id and gives it to all.
absl::StatusOr<std::string> ShareId(const LonghaulCudaPlugin& plugin, SiteLink& link,
                                    Duration deadline) {
  if (link.rank() != 0) return link.Receive(0, deadline);
  char error[kErrorBytes] = "";
  std::string id(LONGHAUL_GROUP_ID_BYTES, '\0');
  if (plugin.group_id(reinterpret_cast<uint8_t*>(id.data()), error, sizeof error) !=
      LONGHAUL_CUDA_OK) {
    return absl::FailedPreconditionError(absl::StrCat("NCCL does not start: ", error));
  }
  for (uint32_t peer : link.peers()) RETURN_IF_ERROR(link.Send(peer, id, deadline));
  return id;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceGroup>> MakeNcclGroup(const LonghaulCudaPlugin& plugin,
                                                           SiteLink& link, int device,
                                                           Duration deadline,
                                                           std::function<void*()> stream) {
  ASSIGN_OR_RETURN(const std::string id, ShareId(plugin, link, deadline));
  if (id.size() != LONGHAUL_GROUP_ID_BYTES) {
    return absl::UnavailableError("rank 0 sent something else than an id");
  }
  char error[kErrorBytes] = "";
  LonghaulGroup* group = nullptr;
  const auto deadline_ms = static_cast<uint64_t>(deadline / Milliseconds(1));
  const int result =
      plugin.group_make(reinterpret_cast<const uint8_t*>(id.data()), link.rank(), link.size(),
                        device, deadline_ms, &group, error, sizeof error);
  if (result != LONGHAUL_CUDA_OK) {
    return absl::FailedPreconditionError(
        absl::StrCat("the site's GPUs do not find together: ", error));
  }
  return std::unique_ptr<DeviceGroup>(
      new NcclGroup(plugin, group, link.rank(), link.size(), std::move(stream)));
}

}  // namespace longhaul
