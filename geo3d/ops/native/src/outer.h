// c = a^T b for tall a and b, where a may come from a function: gradients of weights.
#pragma once
#include <algorithm>

#include "gemm.h"

namespace geo3d {

constexpr int64_t DEPTH = 256;  // rows added up at a time

// Packs `present` columns of `depth` rows, padded to MR with zeros, as Tile::multiply<true> takes them.
inline void pack_rows(const float* a, int64_t stride, int64_t depth, int64_t present, float* to) {
  for (int64_t k = 0; k < depth; ++k, a += stride, to += MR) {
    if (present == MR) {
      std::memcpy(to, a, MR * sizeof(float));
    } else {
      for (int64_t r = 0; r < MR; ++r) to[r] = r < present ? a[r] : 0.0f;
    }
  }
}

// c (height x width, rows round_up(width, NR) apart) += a^T b over rows [start, stop).
template <class Left>
void add_outer(int64_t start, int64_t stop, int64_t top, int64_t height, int64_t width, const float* b, int64_t b_stride,
               float* c, float* packed, float* left, Left& pack_left) {
  Tile tile;
  for (int64_t row = start; row < stop; row += DEPTH) {
    int64_t depth = std::min(DEPTH, stop - row);
    pack(b + row * b_stride, b_stride, depth, width, packed);
    for (int64_t i = 0; i < height; i += MR) {
      pack_left(row, depth, top + i, left);
      for (int64_t p = 0; p < panels(width); ++p) {
        float* to = c + i * round_up(width, NR) + p * NR;
        tile.multiply<true>(left, 1, packed + p * NR * depth, depth, nullptr);
        for (int64_t r = 0; r < std::min<int64_t>(MR, height - i); ++r, to += round_up(width, NR)) {
          store(to, load(to) + tile.value[r][0]), store(to + LANES, load(to + LANES) + tile.value[r][1]);
        }
      }
    }
  }
}

// c (height x width) = a^T b over all rows; pack_left(row, depth, i, to) packs columns i ... i + MR of `depth` rows of
// a as pack_rows does. Where the result alone would not occupy all threads, parts of the rows are added up separately.
// The parts do not depend on the number of threads, so the sums do not either. ADD: c += instead.
template <bool ADD = false, class Left>
void outer(int threads, int64_t rows, int64_t height, int64_t width, const float* b, int64_t b_stride, float* c,
           Left pack_left) {
  int64_t tall = std::min(round_up(height, MR), round_up(96, MR)), wide = std::min(round_up(width, NR), (int64_t)256);
  int64_t down = ceil_div(height, tall), across = ceil_div(width, wide), tiles = down * across;
  int64_t parts = std::max<int64_t>(1, std::min(ceil_div(16, tiles), rows / (2 * DEPTH)));
  int64_t share = std::max(DEPTH, round_up(ceil_div(rows, parts), DEPTH));
  parts = std::max<int64_t>(1, ceil_div(rows, share));
  Scratch<float> sums(parts * tiles * tall * wide);
  parallel(threads, parts * tiles, [&](int64_t task) {
    int64_t tile = task % tiles, start = task / tiles * share, i = tile / across * tall, j = tile % across * wide;
    float* to = sums + task * tall * wide;
    std::memset(to, 0, (size_t)(tall * wide) * sizeof(float));
    Scratch<float> packed(DEPTH * wide), left(DEPTH * MR);
    add_outer(start, std::min(rows, start + share), i, std::min(tall, height - i), std::min(wide, width - j), b + j,
              b_stride, to, packed, left, pack_left);
  });
  parallel(threads, tiles, [&](int64_t tile) {
    int64_t i0 = tile / across * tall, j0 = tile % across * wide, broad = std::min(wide, width - j0);
    for (int64_t i = 0; i < std::min(tall, height - i0); ++i)
      for (int64_t j = 0; j < broad; ++j) {
        float total = ADD ? c[(i0 + i) * width + j0 + j] : 0.0f;
        for (int64_t p = 0; p < parts; ++p)
          total += sums[(p * tiles + tile) * tall * wide + i * round_up(broad, NR) + j];
        c[(i0 + i) * width + j0 + j] = total;
      }
  });
}

}  // namespace geo3d
