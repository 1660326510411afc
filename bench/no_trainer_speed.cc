#include "bench/trainer_speed.h"

namespace longhaul {

absl::StatusOr<std::unique_ptr<TrainerSpeed>> TrainerSpeed::Make(const LlamaShape&, uint32_t) {
  return absl::UnimplementedError("this build is without LibTorch");
}

}  // namespace longhaul
