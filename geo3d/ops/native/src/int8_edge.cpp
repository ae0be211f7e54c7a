// Edge convolutions on codes: y_ij = a_i + b_j, where b is stored as 8-bit codes and its maximum is that of bytes.
#include <algorithm>

#include "api.h"
#include "int8.h"
#include "table.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 96;      // rows of a task
constexpr int WIDE = LANES * 4;  // bytes of a vector

typedef uint8_t Row __attribute__((vector_size(WIDE)));

Row load_row(const uint8_t* p) {
  Row v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

Row larger(Row a, Row b) {
#if defined(__AVX512F__)
  return (Row)_mm512_max_epu8((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Row)_mm256_max_epu8((__m256i)a, (__m256i)b);
#else
  return a > b ? a : b;
#endif
}

// Evaluates a layer for rows of neighbors.
struct Evaluation {
  int64_t k, channels, width, out_stride;
  const float* a;
  const uint8_t* codes;
  const int64_t* neighbors;
  const float *step, *offset, *scale, *shift;  // filled up
  float slope;
  float* out;

  // Row i, V vectors of codes from channel `first` on.
  template <int V>
  void row(int64_t i, int64_t first) const {
    const uint8_t* from = codes + first;
    const int64_t* index = neighbors + i * k;
    Row best[V];
    for (int v = 0; v < V; ++v) best[v] = load_row(from + index[0] * width + v * WIDE);
    for (int64_t j = 1; j < k; ++j)
      for (int v = 0; v < V; ++v) best[v] = larger(best[v], load_row(from + index[j] * width + v * WIDE));
    alignas(64) uint8_t top[V * WIDE];
    std::memcpy(top, best, sizeof best);
    const float* own = a + i * channels;
    float* to = out + i * out_stride;
    int64_t c = first, last = std::min(channels, first + V * WIDE);
    for (; c + LANES <= last; c += LANES) store(to + c, value(load(own + c), top + c - first, c));
    if (c < last) store_part(to + c, last - c, value(load_part(own + c, last - c, Floats{}), top + c - first, c));
  }

 private:
  Floats value(Floats own, const uint8_t* top, int64_t c) const {
    Floats y = own + affine(load_codes(top), load(step + c), load(offset + c));
    return leaky(affine(y, load(scale + c), load(shift + c)), splat(slope));
  }
};

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// c and b are acc * scale + shift from the first and the second part of the packed weight. a (rows, channels) = c - b;
// codes (rows, width): those of b, then zeros. scale and shift have 2 channels values; width is channels rounded up to
// 64; step and offset of the codes have one value, or one for each channel.
GEO3D_API int32_t geo3d_int8_edge_parts(int32_t threads, int64_t rows, int64_t channels, int64_t depth,
                                        const uint8_t* q, const int8_t* packed, const float* scale, const float* shift,
                                        int64_t steps, const float* step, int64_t offsets, const float* offset,
                                        int64_t high, float* a, uint8_t* codes, int64_t width) {
  return guarded([&] {
    Filled scale_a(scale, channels, channels, 0.0f), shift_a(shift, channels, channels, 0.0f);
    Filled scale_b(scale + channels, channels, channels, 0.0f), shift_b(shift + channels, channels, channels, 0.0f);
    Filled by(step, steps, channels, 1.0f), from(offset, offsets, channels, 0.0f), inverse(by, inverse_of);
    int64_t panels = ceil_div(channels, PANEL);
    parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
      int64_t start = block * BLOCK, height = std::min(BLOCK, rows - start);
      each_tile(q + start * depth, height, depth / GROUP, packed, 0, panels,
                [&](int64_t i, int64_t count, int64_t first, int64_t wide, const int32_t* acc) {
                  for (int64_t c = first; c < first + wide; c += LANES) {
                    Floats factor = scale_a.at(c), more = shift_a.at(c);
                    for (int64_t r = 0; r < count; ++r) {
                      Floats sum = to_floats(load(acc + r * TILE_COLUMNS + c - first));
                      store_channels(a + (start + i + r) * channels, c, channels, affine(sum, factor, more));
                    }
                  }
                });
      each_tile(q + start * depth, height, depth / GROUP, packed + panels * PANEL * depth, 0, panels,
                [&](int64_t i, int64_t count, int64_t first, int64_t wide, const int32_t* acc) {
                  for (int64_t c = first; c < first + wide; c += LANES) {
                    Rounding rounding{by.at(c), inverse.at(c), from.at(c), splat((float)high)};
                    Floats factor = scale_b.at(c), more = shift_b.at(c);
                    for (int64_t r = 0; r < count; ++r) {
                      Floats b = affine(to_floats(load(acc + r * TILE_COLUMNS + c - first)), factor, more);
                      subtract_channels(a + (start + i + r) * channels, c, channels, b);
                      store_codes(codes + (start + i + r) * width + c, rounding.codes(b));
                    }
                  }
                });
      for (int64_t i = start; i < start + height; ++i)
        std::memset(codes + i * width + panels * PANEL, 0, (size_t)(width - panels * PANEL));
    });
    return OK;
  });
}

// out (rows, channels, `out_stride` apart) = leaky((a + (max_j code_j * step + offset)) * scale + shift); a (rows,
// channels), codes (rows, width), neighbors (rows, k).
GEO3D_API int32_t geo3d_int8_edge_evaluate(int32_t threads, int64_t rows, int64_t k, int64_t channels, const float* a,
                                           const uint8_t* codes, int64_t width, const int64_t* neighbors, int64_t steps,
                                           const float* step, int64_t offsets, const float* offset, const float* scale,
                                           const float* shift, float slope, float* out, int64_t out_stride) {
  return guarded([&]() -> int32_t {
    Fault fault;
    Filled by(step, steps, channels, 1.0f), from(offset, offsets, channels, 0.0f);
    Filled factor(scale, channels, channels, 0.0f), more(shift, channels, channels, 0.0f);
    Evaluation evaluation{k, channels, width, out_stride, a, codes, neighbors, by, from, factor, more, slope, out};
    parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
      int64_t start = block * BLOCK, stop = std::min(rows, start + BLOCK), c = 0;
      if (!in_range(neighbors + start * k, (stop - start) * k, rows)) return fault.raise(BAD_INDEX);
      for (; c + 4 * WIDE <= width; c += 4 * WIDE)
        for (int64_t i = start; i < stop; ++i) evaluation.row<4>(i, c);
      for (; c < channels; c += WIDE)
        for (int64_t i = start; i < stop; ++i) evaluation.row<1>(i, c);
    });
    return fault.status();
  });
}
