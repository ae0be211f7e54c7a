// Sums over many rows: single precision within a block of rows, double across blocks, always in the same order.
#pragma once
#include <algorithm>
#include <type_traits>

#include "simd.h"

namespace geo3d {

constexpr int VECTORS = LANES == 16 ? 4 : 2;  // channels side by side: what the registers hold

// Calls f(std::integral_constant<int, V>(), first channel) for groups of V vectors until all channels are done; their
// number is a multiple of LANES.
template <class F>
void each_group(int64_t channels, F&& f) {
  int64_t c = 0;
  for (; c + VECTORS * LANES <= channels; c += VECTORS * LANES) f(std::integral_constant<int, VECTORS>(), c);
  for (; c < channels; c += LANES) f(std::integral_constant<int, 1>(), c);
}

// sum and square (channels): sums of x - shift and of its square over `rows` rows, `stride` apart.
inline void column_sums(const float* x, int64_t stride, int64_t rows, int64_t channels, const float* shift, float* sum,
                        float* square) {
  each_group(channels, [&](auto group, int64_t c) {
    constexpr int V = decltype(group)::value;
    Floats total[V] = {}, squares[V] = {}, middle[V];
    for (int v = 0; v < V; ++v) middle[v] = load(shift + c + v * LANES);
    for (int64_t i = 0; i < rows; ++i)
      for (int v = 0; v < V; ++v) {
        Floats d = load(x + i * stride + c + v * LANES) - middle[v];
        total[v] += d, squares[v] += d * d;
      }
    for (int v = 0; v < V; ++v) store(sum + c + v * LANES, total[v]), store(square + c + v * LANES, squares[v]);
  });
}

// totals (width) = the parts (blocks, width) added up in their order.
inline void add_parts(const float* parts, int64_t blocks, int64_t width, double* totals) {
  std::fill(totals, totals + width, 0.0);
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t i = 0; i < width; ++i) totals[i] += parts[block * width + i];
}

}  // namespace geo3d
