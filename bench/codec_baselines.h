// What others do, for comparison with the codecs of compression/: codes of fixed width, and a
// selection by the standard library. Measured here, used nowhere else.
//
// Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace longhaul {

inline constexpr size_t kE3m0Block = 256;

// Sign and three bits of exponent per value, one bf16 scale per 256 values (Streaming DiLoCo,
// Douillard et al. 2025, arXiv 2501.18512): 0 and ± scale · 2^-6 .. 2^0, the nearest of
// them. 4.0625 bits per value. `codes` holds two values per byte.
void EncodeE3m0(std::span<const float> values, std::vector<uint8_t>& codes,
                std::vector<uint16_t>& scales);
void DecodeE3m0(std::span<const uint8_t> codes, std::span<const uint16_t> scales,
                std::span<float> values);

// Signs and one mean magnitude for all (signSGD with error feedback, Karimireddy et al. 2019, arXiv
// 1901.09847): 1 bit per value, sizes are multiples of 8.
float EncodeSigns(std::span<const float> values, std::vector<uint8_t>& signs);
void DecodeSigns(std::span<const uint8_t> signs, float magnitude, std::span<float> values);

// The k-th largest magnitude of all, by std::nth_element. `scratch` is resized.
float NthMagnitude(std::span<const float> values, size_t k, std::vector<float>& scratch);

}  // namespace longhaul
