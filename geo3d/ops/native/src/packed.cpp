// Layers whose float weight is packed once, at load: for inference on few rows, where packing would be half the work.
#include <algorithm>

#include "api.h"
#include "gemm.h"
#include "pieces.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 16 * MR, COLUMNS = 128;  // rows and outputs of a task

Floats leaky(Floats z, float slope) { return z > 0.0f ? z : z * slope; }

// LeakyReLU in place, rows `stride` apart.
void activate(float* x, int64_t stride, int64_t rows, int64_t columns, float slope) {
  for (int64_t i = 0; i < rows; ++i) {
    float* row = x + i * stride;
    int64_t c = 0;
    for (; c + LANES <= columns; c += LANES) store(row + c, leaky(load(row + c), slope));
    for (; c < columns; ++c) row[c] = row[c] > 0.0f ? row[c] : row[c] * slope;
  }
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// packed (columns rounded up to 32, depth) from w (columns, depth); only this library can read it.
GEO3D_API int32_t geo3d_pack(int32_t threads, int64_t columns, int64_t depth, const float* w, float* packed) {
  return guarded([&] {
    parallel(threads, panels(columns), [&](int64_t p) {
      int64_t first = p * NR;
      pack_transposed(w + first * depth, depth, depth, std::min<int64_t>(NR, columns - first), packed + first * depth);
    });
    return OK;
  });
}

// c (rows, columns, `c_stride` apart) = leaky(a w^T + bias), leaky(z) = z > 0 ? z : slope z; bias may be null.
GEO3D_API int32_t geo3d_linear_packed(int32_t threads, int64_t rows, int64_t columns, int64_t depth, const float* a,
                                      int64_t a_stride, const float* packed, const float* bias, float slope, float* c,
                                      int64_t c_stride) {
  return guarded([&] {
    Scratch<float> init(round_up(columns, NR));
    for (int64_t j = 0; j < round_up(columns, NR); ++j) init[j] = bias && j < columns ? bias[j] : 0.0f;
    int64_t chunks = ceil_div(columns, COLUMNS);
    parallel(threads, ceil_div(rows, BLOCK) * chunks, [&](int64_t task) {
      int64_t row = task / chunks * BLOCK, first = task % chunks * COLUMNS;
      int64_t height = std::min(BLOCK, rows - row), width = std::min(COLUMNS, columns - first);
      float* to = c + row * c_stride + first;
      Rows part(depth);
      multiply_packed(a + row * a_stride, a_stride, height, depth, packed + first * depth, width, init + first, to,
                      c_stride, part);
      if (slope != 1.0f) activate(to, c_stride, height, width, slope);
    });
    return OK;
  });
}

// out (clouds, 2 C, `out_stride` apart) = maximum and mean over each cloud of leaky((x w^T) scale + shift).
GEO3D_API int32_t geo3d_linear_pool_packed(int32_t threads, int64_t rows, int64_t channels, int64_t depth,
                                           int64_t clouds, const int64_t* ptr, const float* x, int64_t x_stride,
                                           const float* packed, const float* scale, const float* shift, float slope,
                                           float* out, int64_t out_stride) {
  return guarded([&]() -> int32_t {
    if (!offsets_rise(ptr, clouds, rows)) return BAD_OFFSETS;
    int64_t width = round_up(channels, NR), chunks = ceil_div(channels, COLUMNS);
    std::vector<Run> all = runs_of(ptr, clouds, BLOCK);
    Scratch<float> found((int64_t)all.size() * 2 * width), factor(width), offset(width);
    for (int64_t c = 0; c < width; ++c) {
      factor[c] = c < channels ? scale[c] : 0.0f, offset[c] = c < channels ? shift[c] : 0.0f;
    }
    parallel(threads, (int64_t)all.size() * chunks, [&](int64_t task) {
      const Run& run = all[(size_t)(task / chunks)];
      int64_t first = task % chunks * COLUMNS, last = std::min(width, first + COLUMNS);
      float *top = found + task / chunks * 2 * width, *sum = top + width;
      std::fill(top + first, top + last, -INFINITY), std::fill(sum + first, sum + last, 0.0f);
      Rows part(depth);
      Tile tile;
      for (int64_t i = run.start; i < run.stop; i += MR)
        for (int64_t c = first; c < last; c += NR) {
          int64_t height = std::min<int64_t>(MR, run.stop - i);
          part.multiply(tile, x + i * x_stride, x_stride, height, packed + c * depth, nullptr);
          for (int half = 0; half < 2; ++half) {
            int64_t of = c + half * LANES;
            Floats high = load(top + of), total = load(sum + of), by = load(factor + of), from = load(offset + of);
            for (int64_t r = 0; r < height; ++r) {
              Floats y = leaky(tile.value[r][half] * by + from, slope);
              high = max(y, high), total += y;
            }
            store(top + of, high), store(sum + of, total);
          }
        }
    });
    join_runs(all, ptr, clouds, channels, found, width, out, out_stride);
    return OK;
  });
}
