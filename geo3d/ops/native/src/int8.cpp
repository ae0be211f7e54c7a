// Codes of inputs, and layers on codes: see int8.h.
#include "int8.h"

#include <algorithm>

#include "api.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 96, PANELS = 8;  // rows and panels of a task

// As each_tile, for all rows and panels, on all threads.
template <class Done>
void each_tile_of_all(int threads, int64_t rows, int64_t channels, int64_t depth, const uint8_t* q,
                      const int8_t* packed, Done&& done) {
  int64_t panels = ceil_div(channels, PANEL), chunks = ceil_div(panels, PANELS);
  parallel(threads, ceil_div(rows, BLOCK) * chunks, [&](int64_t task) {
    int64_t row = task / chunks * BLOCK, first = task % chunks * PANELS;
    each_tile(q + row * depth, std::min(BLOCK, rows - row), depth / GROUP, packed, first,
              std::min(panels, first + PANELS),
              [&](int64_t i, int64_t height, int64_t c, int64_t width, const int32_t* acc) {
                done(row + i, height, c, width, acc);
              });
  });
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// q (rows, width) = round(clamp((x - offset) / step, 0, high)) of x (rows, depth), then zeros; width is depth rounded
// up to 4, step and offset are single values.
GEO3D_API int32_t geo3d_int8_quantize(int32_t threads, int64_t rows, int64_t depth, const float* x, int64_t x_stride,
                                      const float* step, const float* offset, int64_t high, uint8_t* q, int64_t width) {
  return guarded([&]() -> int32_t {
    Fault fault;
    Rounding rounding{splat(*step), splat(inverse_of(*step)), splat(*offset), splat((float)high)};
    parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
      Ints unknown{};
      for (int64_t i = block * BLOCK; i < std::min(rows, (block + 1) * BLOCK); ++i) {
        const float* row = x + i * x_stride;
        int64_t k = 0;
        for (; k + LANES <= depth; k += LANES) {
          Floats values = load(row + k);
          unknown |= values != values;
          store_codes(q + i * width + k, rounding.codes(values));
        }
        if (k == width) continue;
        Floats values = load_part(row + k, depth - k, rounding.offset);
        uint8_t rest[LANES];
        unknown |= values != values;
        store_codes(rest, rounding.codes(values));
        std::memcpy(q + i * width + k, rest, (size_t)(width - k));
      }
      for (int lane = 0; lane < LANES; ++lane)
        if (unknown[lane]) fault.raise(NOT_FINITE);
    });
    return fault.status();
  });
}

// out (rows, channels) = the sums of products of q (rows, depth), depth a multiple of 4, and of the packed weight.
GEO3D_API int32_t geo3d_int8_accumulate(int32_t threads, int64_t rows, int64_t channels, int64_t depth,
                                        const uint8_t* q, const int8_t* packed, int32_t* out) {
  return guarded([&] {
    each_tile_of_all(threads, rows, channels, depth, q, packed,
                     [&](int64_t i, int64_t height, int64_t c, int64_t width, const int32_t* acc) {
                       size_t size = (size_t)std::min(width, channels - c) * sizeof(int32_t);
                       for (int64_t r = 0; r < height; ++r)
                         std::memcpy(out + (i + r) * channels + c, acc + r * TILE_COLUMNS, size);
                     });
    return OK;
  });
}

// out (rows, channels, `out_stride` apart) = leaky(acc * scale + shift), leaky(z) = z > 0 ? z : slope z.
GEO3D_API int32_t geo3d_int8_linear(int32_t threads, int64_t rows, int64_t channels, int64_t depth, const uint8_t* q,
                                    const int8_t* packed, const float* scale, const float* shift, float slope,
                                    float* out, int64_t out_stride) {
  return guarded([&] {
    Filled factor(scale, channels, channels, 0.0f), offset(shift, channels, channels, 0.0f);
    Floats below = splat(slope);
    each_tile_of_all(threads, rows, channels, depth, q, packed,
                     [&](int64_t i, int64_t height, int64_t first, int64_t width, const int32_t* acc) {
                       for (int64_t j = 0; j < width; j += LANES) {
                         Floats by = factor.at(first + j), from = offset.at(first + j);
                         for (int64_t r = 0; r < height; ++r) {
                           Floats z = affine(to_floats(load(acc + r * TILE_COLUMNS + j)), by, from);
                           store_channels(out + (i + r) * out_stride, first + j, channels, leaky(z, below));
                         }
                       }
                     });
    return OK;
  });
}
