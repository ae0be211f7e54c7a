// The layer before the global pooling on codes: linear, activation, then maximum and mean over each cloud.
#include <algorithm>

#include "api.h"
#include "int8.h"
#include "pieces.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 192, PANELS = 8;  // rows and panels of a task; the reference adds in runs of BLOCK rows, too

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// out (clouds, 2 C, `out_stride` apart) = maximum and mean over each cloud of leaky(acc * scale + shift). A cloud is
// cut into runs of BLOCK rows, from its first row on: rows are added in each run, then the runs' sums, all in float32.
GEO3D_API int32_t geo3d_int8_linear_pool(int32_t threads, int64_t rows, int64_t channels, int64_t depth, int64_t clouds,
                                         const int64_t* ptr, const uint8_t* q, const int8_t* packed, const float* scale,
                                         const float* shift, float slope, float* out, int64_t out_stride) {
  return guarded([&]() -> int32_t {
    if (!offsets_rise(ptr, clouds, rows)) return BAD_OFFSETS;
    Filled factor(scale, channels, channels, 0.0f), offset(shift, channels, channels, 0.0f);
    Floats below = splat(slope);
    int64_t panels = ceil_div(channels, PANEL), chunks = ceil_div(panels, PANELS), width = panels * PANEL;
    std::vector<Run> all = runs_of(ptr, clouds, BLOCK);
    Scratch<float> found((int64_t)all.size() * 2 * width);
    parallel(threads, (int64_t)all.size() * chunks, [&](int64_t task) {
      const Run& run = all[(size_t)(task / chunks)];
      float* to = found + task / chunks * 2 * width;
      int64_t end = std::min(panels, (task % chunks + 1) * PANELS);
      for (int64_t p = task % chunks * PANELS; p < end; p += TILE_PANELS) {
        Floats top[TILE_COLUMNS / LANES], sum[TILE_COLUMNS / LANES] = {};
        for (Floats& lanes : top) lanes = splat(-INFINITY);
        each_tile(q + run.start * depth, run.stop - run.start, depth / GROUP, packed, p, std::min(end, p + TILE_PANELS),
                  [&](int64_t, int64_t height, int64_t first, int64_t wide, const int32_t* acc) {
                    for (int64_t j = 0; j < wide; j += LANES) {
                      Floats by = factor.at(first + j), from = offset.at(first + j);
                      Floats high = top[j / LANES], total = sum[j / LANES];
                      for (int64_t r = 0; r < height; ++r) {
                        Floats y = leaky(affine(to_floats(load(acc + r * TILE_COLUMNS + j)), by, from), below);
                        high = max(y, high), total += y;
                      }
                      top[j / LANES] = high, sum[j / LANES] = total;
                    }
                  });
        for (int64_t c = p * PANEL, v = 0; c < std::min(end, p + TILE_PANELS) * PANEL; c += LANES, ++v)
          store(to + c, top[v]), store(to + width + c, sum[v]);
      }
    });
    join_runs(all, ptr, clouds, channels, found, width, out, out_stride);
    return OK;
  });
}
