// Vectors as wide as the instruction set allows, with the compilers' vector types: the same code runs everywhere.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace geo3d {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));

inline Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Ints load(const int32_t* p) {
  Ints v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }
inline void store(int32_t* p, Ints v) { std::memcpy(p, &v, sizeof v); }
inline Floats splat(float x) { return x - Floats{}; }
inline Ints splat(int32_t x) { return x - Ints{}; }

// Both return b where a and b are equal or not comparable.
inline Floats max(Floats a, Floats b) { return a > b ? a : b; }
inline Floats min(Floats a, Floats b) { return a < b ? a : b; }

// {0, 1, 2, ...}
inline Ints iota() {
  Ints v{};
  for (int i = 0; i < LANES; ++i) v[i] = i;
  return v;
}

// Bit i tells whether a[i] <= b[i].
inline uint32_t less_equal_bits(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ);
#elif defined(__AVX2__)
  return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LE_OQ));
#else
  Ints m = a <= b;
  uint32_t bits = 0;
  for (int i = 0; i < LANES; ++i) bits |= (uint32_t)(m[i] & 1) << i;
  return bits;
#endif
}

// The first n lanes from memory, the others from rest.
inline Floats load_part(const float* p, int64_t n, Floats rest) {
  float buffer[LANES];
  store(buffer, rest);
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
inline void store_part(float* p, int64_t n, Floats v) {
  float buffer[LANES];
  store(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace geo3d
