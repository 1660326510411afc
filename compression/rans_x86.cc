// The vector loops of the entropy coder. Twins: EncodePlain and DecodePlain in rans.cc.
#include "compression/rans_kernels.h"

#ifdef LONGHAUL_X86
#include <immintrin.h>

#include <bit>

namespace longhaul::rans {
namespace {

LONGHAUL_AVX512 inline __m512i Iota() {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// Entries for 16 symbols: from registers when all are below 32, else gathered.
template <bool kLarge>
LONGHAUL_AVX512 inline __m512i Entries(const std::array<uint32_t, 256>& table, __m512i low,
                                       __m512i high, __m512i symbols) {
  if constexpr (kLarge) return _mm512_i32gather_epi32(symbols, table.data(), 4);
  return _mm512_permutex2var_epi32(low, symbols, high);
}

struct EncodeRegisters {
  __m512i reciprocal_low, reciprocal_high, packed_low, packed_high;
};

// Pushes 16 symbols onto 16 lanes; the words that leave go below `p`, lane 0 first.
template <bool kLarge>
LONGHAUL_AVX512 inline uint16_t* Push16(__m512i& state, const uint8_t* symbols,
                                        const EncoderTable& table, const EncodeRegisters& r,
                                        uint16_t* p) {
  const __m512i s =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols)));
  const __m512i reciprocal =
      Entries<kLarge>(table.reciprocal, r.reciprocal_low, r.reciprocal_high, s);
  const __m512i packed = Entries<kLarge>(table.packed, r.packed_low, r.packed_high, s);
  const __m512i complement = _mm512_srli_epi32(packed, kComplementAt);
  const __m512i limit =
      _mm512_slli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(kProbabilityTotal), complement), 19);
  const __mmask16 full = _mm512_cmpge_epu32_mask(state, limit);

  // Words of the full lanes, moved to the top of the vector, and stored so that they end at p.
  const int count = std::popcount(static_cast<unsigned>(full));
  const __m512i squeezed = _mm512_maskz_compress_epi32(full, state);
  const __m512i top =
      _mm512_permutexvar_epi32(_mm512_add_epi32(Iota(), _mm512_set1_epi32(count)), squeezed);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p - 16), _mm512_cvtepi32_epi16(top));
  const __m512i x = _mm512_mask_srli_epi32(state, full, state, 16);

  const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(x, reciprocal), 32);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(reciprocal, 32));
  const __m512i product = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
  const __m512i shift =
      _mm512_and_si512(_mm512_srli_epi32(packed, kShiftAt), _mm512_set1_epi32(15));
  const __m512i quotient = _mm512_srlv_epi32(product, shift);
  const __m512i bias = _mm512_and_si512(packed, _mm512_set1_epi32((1 << kShiftAt) - 1));
  state = _mm512_add_epi32(_mm512_add_epi32(x, bias), _mm512_mullo_epi32(quotient, complement));
  return p - count;
}

template <bool kLarge>
LONGHAUL_AVX512 uint16_t* EncodeGroups(const uint8_t* symbols, size_t groups,
                                       const EncoderTable& table, Lanes& lanes, uint16_t* p) {
  const EncodeRegisters r = {
      _mm512_load_si512(&table.reciprocal[0]), _mm512_load_si512(&table.reciprocal[16]),
      _mm512_load_si512(&table.packed[0]), _mm512_load_si512(&table.packed[16])};
  __m512i low = _mm512_loadu_si512(&lanes.state[0]);
  __m512i high = _mm512_loadu_si512(&lanes.state[16]);
  for (size_t g = groups; g > 0; --g) {
    const uint8_t* s = symbols + (g - 1) * kWideLanes;
    p = Push16<kLarge>(high, s + 16, table, r, p);
    p = Push16<kLarge>(low, s, table, r, p);
  }
  _mm512_storeu_si512(&lanes.state[0], low);
  _mm512_storeu_si512(&lanes.state[16], high);
  return p;
}

// Feeds the lanes that fell below kLowest.
LONGHAUL_AVX512 inline const uint16_t* Feed16(__m512i x, const uint16_t* p, __m512i& state) {
  const __mmask16 hungry = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(kLowest));
  const __m512i words =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  const __m512i fed =
      _mm512_or_si512(_mm512_slli_epi32(x, 16), _mm512_maskz_expand_epi32(hungry, words));
  state = _mm512_mask_mov_epi32(x, hungry, fed);
  return p + std::popcount(static_cast<unsigned>(hungry));
}

// Pulls 16 symbols out of 16 lanes.
LONGHAUL_AVX512 inline const uint16_t* Pull16(__m512i& state, const DecoderTable& table,
                                              const uint16_t* p, uint8_t* symbols) {
  const __m512i slot = _mm512_and_si512(state, _mm512_set1_epi32(kProbabilityTotal - 1));
  const __m512i entry = _mm512_i32gather_epi32(slot, table.data(), 4);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols), _mm512_cvtepi32_epi8(entry));
  const __m512i frequency =
      _mm512_add_epi32(_mm512_and_si512(_mm512_srli_epi32(entry, 8), _mm512_set1_epi32(0xfff)),
                       _mm512_set1_epi32(1));
  const __m512i x =
      _mm512_add_epi32(_mm512_mullo_epi32(frequency, _mm512_srli_epi32(state, kProbabilityBits)),
                       _mm512_srli_epi32(entry, 20));
  return Feed16(x, p, state);
}

// A table of at most kSmallAlphabet symbols in registers.
struct SmallTable {
  size_t used = 0;
  __m256i starts[kSmallAlphabet];
  __m256i frequency_of, start_of;
};

// As Pull16. The symbol of a slot is the number of symbols after the first that begin at or before
// it: no gather, which costs more than all else.
LONGHAUL_AVX512 inline const uint16_t* PullSmall16(__m512i& state, const SmallTable& table,
                                                   const uint16_t* p, uint8_t* symbols) {
  const __m256i one = _mm256_set1_epi16(1);
  const __m256i slot =
      _mm512_cvtepi32_epi16(_mm512_and_si512(state, _mm512_set1_epi32(kProbabilityTotal - 1)));
  __m256i even = _mm256_setzero_si256(), odd = even;
  size_t s = 1;
  for (; s + 1 < table.used; s += 2) {
    even = _mm256_mask_add_epi16(even, _mm256_cmpge_epu16_mask(slot, table.starts[s]), even, one);
    odd = _mm256_mask_add_epi16(odd, _mm256_cmpge_epu16_mask(slot, table.starts[s + 1]), odd, one);
  }
  if (s < table.used) {
    even = _mm256_mask_add_epi16(even, _mm256_cmpge_epu16_mask(slot, table.starts[s]), even, one);
  }
  const __m256i symbol = _mm256_add_epi16(even, odd);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols), _mm256_cvtepi16_epi8(symbol));
  const __m256i frequency = _mm256_permutexvar_epi16(symbol, table.frequency_of);
  const __m256i bias = _mm256_sub_epi16(slot, _mm256_permutexvar_epi16(symbol, table.start_of));
  const __m512i x = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_cvtepu16_epi32(frequency),
                                                        _mm512_srli_epi32(state, kProbabilityBits)),
                                     _mm512_cvtepu16_epi32(bias));
  return Feed16(x, p, state);
}

// For each mask of 8 lanes: which of the next words each lane takes.
constexpr auto MakeExpansion() {
  std::array<std::array<uint32_t, 8>, 256> table{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    uint32_t next = 0;
    for (unsigned lane = 0; lane < 8; ++lane) {
      if ((mask >> lane) & 1) table[mask][lane] = next++;
    }
  }
  return table;
}
alignas(32) constexpr auto kExpansion = MakeExpansion();

// Pulls 8 symbols out of 8 lanes; they are the lowest bytes of the result's elements.
LONGHAUL_AVX2 inline __m256i Pull8(__m256i& state, const DecoderTable& table, const uint16_t** p) {
  const __m256i slot = _mm256_and_si256(state, _mm256_set1_epi32(kProbabilityTotal - 1));
  const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(table.data()), slot, 4);
  const __m256i frequency =
      _mm256_add_epi32(_mm256_and_si256(_mm256_srli_epi32(entry, 8), _mm256_set1_epi32(0xfff)),
                       _mm256_set1_epi32(1));
  const __m256i x =
      _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(state, kProbabilityBits)),
                       _mm256_srli_epi32(entry, 20));
  // States are below 2^31, so signed comparison is right.
  const __m256i hungry = _mm256_cmpgt_epi32(_mm256_set1_epi32(kLowest), x);
  const auto mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(hungry)));
  const __m256i words = _mm256_permutevar8x32_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(*p))),
      _mm256_load_si256(reinterpret_cast<const __m256i*>(kExpansion[mask].data())));
  const __m256i fed = _mm256_or_si256(_mm256_slli_epi32(x, 16), words);
  state = _mm256_blendv_epi8(x, fed, hungry);
  *p += std::popcount(mask);
  return _mm256_and_si256(entry, _mm256_set1_epi32(255));
}

}  // namespace

uint16_t* EncodeGroupsAvx512(const uint8_t* symbols, size_t groups, const EncoderTable& table,
                             bool large, Lanes& lanes, uint16_t* end) {
  return large ? EncodeGroups<true>(symbols, groups, table, lanes, end)
               : EncodeGroups<false>(symbols, groups, table, lanes, end);
}

LONGHAUL_AVX512 size_t DecodeGroupsAvx512(const uint16_t** in, const uint16_t* end,
                                          const DecoderTable& table, size_t groups, Lanes& lanes,
                                          uint8_t* symbols) {
  const uint16_t* p = *in;
  __m512i low = _mm512_loadu_si512(&lanes.state[0]);
  __m512i high = _mm512_loadu_si512(&lanes.state[16]);
  size_t done = 0;
  for (; done < groups && end - p >= static_cast<ptrdiff_t>(kWideLanes); ++done) {
    p = Pull16(low, table, p, symbols + done * kWideLanes);
    p = Pull16(high, table, p, symbols + done * kWideLanes + 16);
  }
  _mm512_storeu_si512(&lanes.state[0], low);
  _mm512_storeu_si512(&lanes.state[16], high);
  *in = p;
  return done;
}

LONGHAUL_AVX512 size_t DecodeSmallAvx512(const uint16_t** in, const uint16_t* end,
                                         const FrequencyTable& table, size_t groups, Lanes& lanes,
                                         uint8_t* symbols) {
  SmallTable small;
  small.used = SymbolsUsed(table);
  for (size_t s = 1; s < small.used; ++s) {
    small.starts[s] = _mm256_set1_epi16(static_cast<int16_t>(table.start[s]));
  }
  small.frequency_of = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&table.frequency[0]));
  small.start_of = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&table.start[0]));
  __m512i low = _mm512_loadu_si512(&lanes.state[0]);
  __m512i high = _mm512_loadu_si512(&lanes.state[16]);
  const uint16_t* p = *in;
  size_t done = 0;
  for (; done < groups && end - p >= static_cast<ptrdiff_t>(kWideLanes); ++done) {
    p = PullSmall16(low, small, p, symbols + done * kWideLanes);
    p = PullSmall16(high, small, p, symbols + done * kWideLanes + 16);
  }
  _mm512_storeu_si512(&lanes.state[0], low);
  _mm512_storeu_si512(&lanes.state[16], high);
  *in = p;
  return done;
}

LONGHAUL_AVX2 size_t DecodeGroupsAvx2(const uint16_t** in, const uint16_t* end,
                                      const DecoderTable& table, size_t groups, Lanes& lanes,
                                      uint8_t* symbols) {
  const uint16_t* p = *in;
  __m256i state[4];
  for (int i = 0; i < 4; ++i) {
    state[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&lanes.state[8 * i]));
  }
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  size_t done = 0;
  for (; done < groups && end - p >= static_cast<ptrdiff_t>(kWideLanes); ++done) {
    const __m256i s0 = Pull8(state[0], table, &p);
    const __m256i s1 = Pull8(state[1], table, &p);
    const __m256i s2 = Pull8(state[2], table, &p);
    const __m256i s3 = Pull8(state[3], table, &p);
    // Packing works within halves of the register: put the parts in order afterwards.
    const __m256i bytes =
        _mm256_packus_epi16(_mm256_packus_epi32(s0, s1), _mm256_packus_epi32(s2, s3));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + done * kWideLanes),
                        _mm256_permutevar8x32_epi32(bytes, in_order));
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(&lanes.state[8 * i]), state[i]);
  }
  *in = p;
  return done;
}

}  // namespace longhaul::rans
#endif
