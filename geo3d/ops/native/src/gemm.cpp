// Matrix products for layers and their gradients: c = a b^T, c = a b, c = a^T b, all row-major.
#include "gemm.h"

#include <algorithm>

#include "api.h"
#include "outer.h"
#include "sums.h"

namespace geo3d {
namespace {

constexpr int64_t CHUNK = 1 << 16;  // floats of the packed factor that are worked on at a time: they stay in the cache

// Rows of a at a time; few enough that there are tasks for all threads.
int64_t block_rows(int64_t rows) { return std::min<int64_t>(round_up(256, MR), round_up(ceil_div(rows, 16), MR)); }

// c = a b', where pack_chunk(first, width, to) packs columns of b'. Calls done(block, row, height, first, width) when
// some rows and columns are finished and still in the cache.
template <class Pack, class Done>
void product(int threads, int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t a_stride, float* c,
             int64_t c_stride, const float* bias, Pack&& pack_chunk, Done&& done) {
  int64_t width = std::max<int64_t>(NR, CHUNK / std::max<int64_t>(depth, 1) / NR * NR);
  width = std::min(width, round_up(columns, NR));
  int64_t chunks = ceil_div(columns, width), height = block_rows(rows), blocks = ceil_div(rows, height);
  Scratch<float> packed(chunks * width * depth), init(round_up(columns, NR));
  for (int64_t j = 0; j < round_up(columns, NR); ++j) init[j] = bias && j < columns ? bias[j] : 0.0f;
  parallel(threads, chunks, [&](int64_t i) {
    pack_chunk(i * width, std::min(width, columns - i * width), packed + i * width * depth);
  });
  parallel(threads, chunks * blocks, [&](int64_t task) {
    int64_t chunk = task / blocks, row = task % blocks * height, first = chunk * width;
    int64_t high = std::min(height, rows - row), wide = std::min(width, columns - first);
    Rows part(depth);
    multiply_packed(a + row * a_stride, a_stride, high, depth, packed + first * depth, wide, init + first,
                    c + row * c_stride + first, c_stride, part);
    done(task % blocks, row, high, first, wide);
  });
}

void nothing(int64_t, int64_t, int64_t, int64_t, int64_t) {}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// c (rows, columns) = a (rows, depth) b (columns, depth)^T + bias; bias may be null.
GEO3D_API int32_t geo3d_linear(int32_t threads, int64_t rows, int64_t columns, int64_t depth, const float* a,
                               int64_t a_stride, const float* b, int64_t b_stride, const float* bias, float* c,
                               int64_t c_stride) {
  return guarded([&] {
    product(threads, rows, columns, depth, a, a_stride, c, c_stride, bias, [&](int64_t first, int64_t width, float* to) {
      pack_transposed(b + first * b_stride, b_stride, depth, width, to);
    }, nothing);
    return OK;
  });
}

// c = a b^T, and totals (2, columns): the sums over all rows of c - shift and of its square. All dense.
GEO3D_API int32_t geo3d_linear_sums(int32_t threads, int64_t rows, int64_t columns, int64_t depth, const float* a,
                                    const float* b, const float* shift, float* c, double* totals) {
  return guarded([&] {
    int64_t blocks = ceil_div(rows, block_rows(rows));
    Scratch<float> parts(blocks * 2 * columns);
    product(
        threads, rows, columns, depth, a, depth, c, columns, nullptr,
        [&](int64_t first, int64_t width, float* to) { pack_transposed(b + first * depth, depth, depth, width, to); },
        [&](int64_t block, int64_t row, int64_t height, int64_t first, int64_t width) {
          float* to = parts + block * 2 * columns + first;
          column_sums(c + row * columns + first, columns, height, width, shift + first, to, to + columns);
        });
    add_parts(parts, blocks, 2 * columns, totals);
    return OK;
  });
}

// c (rows, columns) = a (rows, depth) b (depth, columns).
GEO3D_API int32_t geo3d_multiply(int32_t threads, int64_t rows, int64_t columns, int64_t depth, const float* a,
                                 int64_t a_stride, const float* b, int64_t b_stride, float* c, int64_t c_stride) {
  return guarded([&] {
    product(threads, rows, columns, depth, a, a_stride, c, c_stride, nullptr,
            [&](int64_t first, int64_t width, float* to) { pack(b + first, b_stride, depth, width, to); }, nothing);
    return OK;
  });
}

// c (height, width) = a (rows, height)^T b (rows, width), the gradient of a weight.
GEO3D_API int32_t geo3d_outer(int32_t threads, int64_t rows, int64_t height, int64_t width, const float* a,
                              int64_t a_stride, const float* b, int64_t b_stride, float* c) {
  return guarded([&] {
    outer(threads, rows, height, width, b, b_stride, c, [&](int64_t row, int64_t depth, int64_t i, float* to) {
      pack_rows(a + row * a_stride + i, a_stride, depth, std::min<int64_t>(MR, height - i), to);
    });
    return OK;
  });
}
