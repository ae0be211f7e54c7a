// Matrix products on tiles that stay in registers, for kernels that use the tile before it leaves the cache.
//
// The left factor is read in place; the right one is packed into panels of NR columns. Panel p holds, for each k, the
// columns p NR ... p NR + NR - 1, padded with zeros.
#pragma once
#include "parallel.h"
#include "simd.h"

namespace geo3d {

constexpr int GROUPS = LANES == 16 ? 4 : 2;  // three rows share a base address: that leaves registers for the tile
constexpr int MR = 3 * GROUPS;
constexpr int NR = 2 * LANES;

inline int64_t panels(int64_t columns) { return ceil_div(columns, NR); }

// acc[r] = init + sum_k a[r, k] * panel[k, :]; a null init stands for zeros. Rows of a are `stride` apart and k runs
// through memory; with PACKED, the rows of one k are side by side and MR floats lie from one k to the next.
struct Tile {
  Floats value[MR][2];

  template <bool PACKED = false>
  void multiply(const float* a, int64_t stride, const float* panel, int64_t depth, const float* init) {
    Floats low = init ? load(init) : Floats{}, high = init ? load(init + LANES) : Floats{};
    Floats acc[MR][2];
    const float* base[GROUPS];
    if (PACKED) stride = 1;
    for (int g = 0; g < GROUPS; ++g) base[g] = a + 3 * g * stride;
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) acc[r][0] = low, acc[r][1] = high;
    for (int64_t k = 0; k < depth; ++k, panel += NR) {
      Floats b0 = load(panel), b1 = load(panel + LANES);
#pragma GCC unroll 4
      for (int g = 0; g < GROUPS; ++g) {
        const float* p = base[g];
        base[g] += PACKED ? MR : 1;
        float x0 = p[0], x1 = p[stride], x2 = p[2 * stride];
        acc[3 * g][0] += x0 * b0, acc[3 * g][1] += x0 * b1;
        acc[3 * g + 1][0] += x1 * b0, acc[3 * g + 1][1] += x1 * b1;
        acc[3 * g + 2][0] += x2 * b0, acc[3 * g + 2][1] += x2 * b1;
      }
    }
    std::memcpy(value, acc, sizeof acc);
  }
  const float* row(int r) const { return (const float*)value[r]; }
};

// Multiplies fewer than MR rows from a copy, so that it reads nothing beyond the last row. It makes a new copy when the
// address of the rows changes: the values at one address must not change while a Rows is in use.
class Rows {
 public:
  explicit Rows(int64_t depth) : depth_(depth), copy_(MR * depth) {}
  // The tile of `rows` <= MR rows at a, `stride` apart.
  void multiply(Tile& tile, const float* a, int64_t stride, int64_t rows, const float* panel, const float* init) {
    if (rows == MR) return tile.multiply<>(a, stride, panel, depth_, init);
    if (a != source_ || rows != rows_) {
      for (int64_t r = 0; r < MR; ++r)
        std::memcpy(copy_ + r * depth_, a + (r < rows ? r : 0) * stride, (size_t)depth_ * sizeof(float));
      source_ = a, rows_ = rows;
    }
    tile.multiply<>(copy_, depth_, panel, depth_, init);
  }

 private:
  int64_t depth_, rows_ = 0;
  const float* source_ = nullptr;
  Scratch<float> copy_;
};

// Packs b (depth x columns, rows `stride` apart).
inline void pack(const float* b, int64_t stride, int64_t depth, int64_t columns, float* packed) {
  for (int64_t p = 0; p < panels(columns); ++p) {
    int64_t first = p * NR, width = columns - first < NR ? columns - first : NR;
    float* to = packed + first * depth;
    for (int64_t k = 0; k < depth; ++k, to += NR) {
      const float* from = b + k * stride + first;
      if (width == NR) {
        store(to, load(from)), store(to + LANES, load(from + LANES));
      } else {
        for (int64_t j = 0; j < NR; ++j) to[j] = j < width ? from[j] : 0.0f;
      }
    }
  }
}

// Packs the transpose of b (columns x depth, rows `stride` apart), times `factor`.
inline void pack_transposed(const float* b, int64_t stride, int64_t depth, int64_t columns, float* packed,
                            float factor = 1.0f) {
  constexpr int64_t BLOCK = 16;  // of k: what is read of a row is a whole cache line
  for (int64_t p = 0; p < panels(columns); ++p) {
    int64_t first = p * NR, width = columns - first < NR ? columns - first : NR;
    float* to = packed + first * depth;
    if (width < NR) std::memset(to, 0, (size_t)(NR * depth) * sizeof(float));
    for (int64_t k0 = 0; k0 < depth; k0 += BLOCK) {
      int64_t k1 = k0 + BLOCK < depth ? k0 + BLOCK : depth;
      for (int64_t j = 0; j < width; ++j) {
        const float* from = b + (first + j) * stride;
        for (int64_t k = k0; k < k1; ++k) to[k * NR + j] = factor * from[k];
      }
    }
  }
}

// c = a b' with b' packed; c (rows x columns) with rows `c_stride` apart. One thread; b' should fit in its cache.
inline void multiply_packed(const float* a, int64_t a_stride, int64_t rows, int64_t depth, const float* packed,
                            int64_t columns, const float* init, float* c, int64_t c_stride, Rows& part) {
  Tile tile;
  for (int64_t i = 0; i < rows; i += MR) {
    int64_t height = rows - i < MR ? rows - i : MR;
    for (int64_t p = 0; p < panels(columns); ++p) {
      int64_t first = p * NR, width = columns - first < NR ? columns - first : NR;
      part.multiply(tile, a + i * a_stride, a_stride, height, packed + first * depth, init ? init + first : nullptr);
      for (int64_t r = 0; r < height; ++r) {
        float* to = c + (i + r) * c_stride + first;
        if (width == NR) {
          store(to, tile.value[r][0]), store(to + LANES, tile.value[r][1]);
        } else {
          std::memcpy(to, tile.row((int)r), (size_t)width * sizeof(float));
        }
      }
    }
  }
}

}  // namespace geo3d
