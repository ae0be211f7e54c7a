// Layers on 8-bit codes: exact sums of products of uint8 inputs and int8 weights, then float32 in a fixed order.
//
// Codes of inputs: (rows, 4 groups), padded with zeros. Weights, within [-63, 63], are stored in panels of 16 outputs:
// panel p holds, for each group of 4 inputs, their weights for outputs 16 p ... 16 p + 15, padded with zeros. The sum
// of two products fits into 16 bits, so that nothing saturates and every path gives the same sum.
#pragma once
#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace geo3d {

constexpr int64_t PANEL = 16, GROUP = 4;
constexpr int TILE_ROWS = 12, TILE_PANELS = 2, TILE_COLUMNS = TILE_PANELS * (int)PANEL;

// Computes the sums of some rows, `stride` apart, and 1 or 2 panels; rows of acc are TILE_COLUMNS apart.
using TileProduct = void (*)(const uint8_t* q, int64_t stride, const int8_t* panel, int64_t groups, int32_t* acc);

// The tile functions of one path, for 1 or 2 panels and each number of rows up to `rows`.
struct Products {
  int rows;
  TileProduct run[TILE_PANELS][TILE_ROWS];
};

// The tile functions of the path in use.
const Products& products();

// Calls done(row, height, column, width, acc) for the tiles of all rows and of the panels [first, last); rows of acc
// are TILE_COLUMNS apart. All tiles of two panels come before those of the next two, so panels stay in the L1 cache.
template <class Done>
void each_tile(const uint8_t* q, int64_t rows, int64_t groups, const int8_t* packed, int64_t first, int64_t last,
               Done&& done) {
  const Products& by = products();
  alignas(64) int32_t acc[TILE_ROWS * TILE_COLUMNS];
  for (int64_t p = first; p < last; p += TILE_PANELS) {
    int64_t wide = last - p < TILE_PANELS ? last - p : TILE_PANELS;
    for (int64_t i = 0; i < rows; i += by.rows) {
      int64_t height = rows - i < by.rows ? rows - i : by.rows;
      by.run[wide - 1][height - 1](q + i * groups * GROUP, groups * GROUP, packed + p * groups * GROUP * PANEL, groups,
                                   acc);
      done(i, height, p * PANEL, wide * PANEL, (const int32_t*)acc);
    }
  }
}

// The value itself. It keeps the compiler from fusing the product x with a following sum.
inline Floats rounded(Floats x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(__x86_64__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#else
  asm("" : "+m"(x));
#endif
  return x;
}

inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
inline Floats affine(Floats x, Floats scale, Floats shift) { return rounded(x * scale) + shift; }
inline Floats leaky(Floats z, Floats slope) { return z > 0.0f ? z : rounded(z * slope); }

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

// The compilers convert between vectors of bytes and of words lane by lane; the processors can do better. (Masks of all
// lanes: without them GCC 12 warns of its own headers.)
inline Floats load_codes(const uint8_t* p) {
#if defined(__AVX512F__)
  return to_floats((Ints)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128((const __m128i*)p)));
#elif defined(__AVX2__)
  return to_floats((Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else
  Bytes bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return to_floats(__builtin_convertvector(bytes, Ints));
#endif
}

// Stores the lowest byte of each lane.
inline void store_codes(uint8_t* p, Ints x) {
#if defined(__AVX512F__)
  _mm_storeu_si128((__m128i*)p, _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)x));
#elif defined(__AVX2__)
  __m256i pick = _mm256_set1_epi32(0x0c080400), fours = _mm256_shuffle_epi8((__m256i)x, pick);
  _mm_storel_epi64((__m128i*)p, _mm_unpacklo_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1)));
#else
  Bytes bytes = __builtin_convertvector(x & 255, Bytes);
  std::memcpy(p, &bytes, sizeof bytes);
#endif
}

// x as codes round(clamp((x - offset) / step, 0, high)), half to even; 0 for NaN.
//
// A product with the inverse of the step is within 2^-14 of the quotient. It can give the wrong code only near the
// middle between two codes; only there it divides, which takes much longer.
struct Rounding {
  Floats step, inverse, offset, high;

  // The codes, in the lowest byte of each lane.
  Ints codes(Floats x) const {
    constexpr float NEAR = 0.5f - 1.0f / 4096.0f, WHOLE = 8388608.0f;  // 2^23 and more have no fraction
    Floats y = inside((x - offset) * inverse), sum = y + WHOLE, off = y - (sum - WHOLE);
    if (less_equal_bits(max(off, -off), splat(NEAR)) != ALL) sum = max(inside((x - offset) / step), Floats{}) + WHOLE;
    Ints bits;
    std::memcpy(&bits, &sum, sizeof bits);
    return bits;
  }

 private:
  static constexpr uint32_t ALL = (1u << LANES) - 1;
  Floats inside(Floats y) const { return min(high, max(Floats{}, y)); }  // NaN stays
};

// 1 / step; NaN where it would not be precise.
inline float inverse_of(float step) { return step > 1e-30f && step < 1e30f ? 1.0f / step : NAN; }

// A vector (channels), padded to whole panels; a single value is repeated.
class Filled {
 public:
  Filled(const float* values, int64_t count, int64_t channels, float rest)
      : size_(round_up(channels, PANEL)), data_(size_) {
    for (int64_t c = 0; c < size_; ++c) data_[c] = c >= channels ? rest : count == 1 ? values[0] : values[c];
  }
  // f applied to each value of another.
  Filled(const Filled& other, float (*f)(float)) : size_(other.size_), data_(size_) {
    for (int64_t c = 0; c < size_; ++c) data_[c] = f(other.data_[c]);
  }
  Floats at(int64_t c) const { return load(data_ + c); }
  operator const float*() const { return data_; }

 private:
  int64_t size_;
  Scratch<float> data_;
};

// Subtracts x from the channels c ... c + LANES - 1, as far as they exist.
inline void subtract_channels(float* row, int64_t c, int64_t channels, Floats x) {
  if (c + LANES <= channels) {
    store(row + c, load(row + c) - x);
  } else if (c < channels) {
    store_part(row + c, channels - c, load_part(row + c, channels - c, Floats{}) - x);
  }
}

// Stores the channels c ... c + LANES - 1, as far as they exist.
inline void store_channels(float* row, int64_t c, int64_t channels, Floats x) {
  if (c + LANES <= channels) {
    store(row + c, x);
  } else if (c < channels) {
    store_part(row + c, channels - c, x);
  }
}

}  // namespace geo3d
