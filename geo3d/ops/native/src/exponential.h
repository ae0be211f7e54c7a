// Exponential functions on vectors, to about seven digits, the same on every machine that rounds alike.
#pragma once
#include "simd.h"

namespace geo3d {

// exp(x), for x cut to [-87, 87], where the result is a normal number: 2^n exp(r) with |r| <= ln(2) / 2.
inline Floats exponential(Floats x) {
  constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23: adding it leaves whole numbers in the low bits
  x = min(max(x, splat(-87.0f)), splat(87.0f));
  Floats shifted = x * 1.44269504f + SHIFT;
  Floats n = shifted - SHIFT;
  Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln(2) in two parts
  Floats p = splat(1.0f / 5040.0f);
  for (float inverse : {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f}) p = p * r + inverse;
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;  // what is left of 1.5 * 2^23 is shifted out
  Floats power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }
inline Floats tanh(Floats x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

}  // namespace geo3d
