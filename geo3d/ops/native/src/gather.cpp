// Maxima over neighbours, and their gradients: b (source_rows, C), neighbors (rows, k) with rows of b, any C.
#include <algorithm>
#include <cmath>
#include <vector>

#include "api.h"
#include "parallel.h"
#include "simd.h"
#include "table.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 128;   // rows of a task
constexpr int64_t COLUMNS = 64;  // channels of a task on the way back

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

// Calls f(first channel, how many) for vectors that cover all channels; the last ones may be covered twice.
template <class F>
void each_vector(int64_t channels, F&& f) {
  for (int64_t c = 0; c + LANES <= channels; c += LANES) f(c, LANES);
  if (channels % LANES && channels > LANES) f(channels - LANES, LANES);
  if (channels < LANES) f(0, channels);
}

Floats some(const float* p, int64_t count) { return count == LANES ? load(p) : load_part(p, count, Floats{}); }

void best_row(const float* b, int64_t channels, const int64_t* index, int64_t k, int64_t c, int64_t count, float* top,
              uint8_t* slot) {
  Floats best = some(b + index[0] * channels + c, count);
  Ints which{};
  for (int64_t j = 1; j < k; ++j) {
    Floats x = some(b + index[j] * channels + c, count);
    which = x > best ? splat((int32_t)j) : which;
    best = x > best ? x : best;
  }
  if (count == LANES) {
    store(top + c, best);
  } else {
    store_part(top + c, count, best);
  }
  if (!slot) return;
  Bytes bytes = __builtin_convertvector(which, Bytes);
  std::memcpy(slot + c, &bytes, (size_t)count);
}

// Calls f(first row, end, first channel, end) for parts of neighbors that write to separate rows.
template <class F>
void scatter(int threads, int64_t rows, int64_t k, int64_t channels, int64_t source_rows, const int64_t* neighbors,
             F&& f) {
  std::vector<int64_t> cut = {0, rows};
  if (rows == source_rows) cut = cuts(threads, neighbors, rows, k, 256);
  int64_t parts = (int64_t)cut.size() - 1, columns = ceil_div(channels, COLUMNS);
  parallel(threads, parts * columns, [&](int64_t task) {
    int64_t c = task % columns * COLUMNS;
    f(cut[task / columns], cut[task / columns + 1], c, std::min(channels, c + COLUMNS));
  });
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// top (rows, C): the largest of the k rows of b; slot (rows, C): the first that is, or null; k is at most 256 with it.
GEO3D_API int32_t geo3d_gather_max(int32_t threads, int64_t rows, int64_t k, int64_t channels, int64_t source_rows,
                                   const float* b, const int64_t* neighbors, float* top, uint8_t* slot) {
  return guarded([&]() -> int32_t {
    Fault fault;
    parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
      int64_t start = block * BLOCK, stop = std::min(rows, start + BLOCK);
      if (!in_range(neighbors + start * k, (stop - start) * k, source_rows)) return fault.raise(BAD_INDEX);
      each_vector(channels, [&](int64_t c, int64_t count) {
        for (int64_t i = start; i < stop; ++i)
          best_row(b, channels, neighbors + i * k, k, c, count, top + i * channels,
                   slot ? slot + i * channels : nullptr);
      });
    });
    return fault.status();
  });
}

// grad_b (source_rows, C): each row's sum of the gradients of the maxima that it provided.
GEO3D_API int32_t geo3d_scatter_max(int32_t threads, int64_t rows, int64_t k, int64_t channels, int64_t source_rows,
                                    const float* grad, const uint8_t* slot, const int64_t* neighbors, float* grad_b) {
  return guarded([&]() -> int32_t {
    if (!in_range(neighbors, rows * k, source_rows)) return BAD_INDEX;
    if (std::any_of(slot, slot + rows * channels, [k](uint8_t s) { return s >= k; })) return BAD_INDEX;
    std::fill(grad_b, grad_b + source_rows * channels, 0.0f);
    scatter(threads, rows, k, channels, source_rows, neighbors, [&](int64_t start, int64_t stop, int64_t c0,
                                                                    int64_t c1) {
      for (int64_t i = start; i < stop; ++i)
        for (int64_t c = c0; c < c1; ++c)
          grad_b[neighbors[i * k + slot[i * channels + c]] * channels + c] += grad[i * channels + c];
    });
    return OK;
  });
}

// grad_b (source_rows, C): for each row, the sum of grad_i over the rows i that have it as a neighbour.
GEO3D_API int32_t geo3d_scatter_sum(int32_t threads, int64_t rows, int64_t k, int64_t channels, int64_t source_rows,
                                    const float* grad, const int64_t* neighbors, float* grad_b) {
  return guarded([&]() -> int32_t {
    if (!in_range(neighbors, rows * k, source_rows)) return BAD_INDEX;
    std::fill(grad_b, grad_b + source_rows * channels, 0.0f);
    scatter(threads, rows, k, channels, source_rows, neighbors, [&](int64_t start, int64_t stop, int64_t c0,
                                                                    int64_t c1) {
      for (int64_t i = start; i < stop; ++i)
        for (int64_t j = 0; j < k; ++j) {
          float* to = grad_b + neighbors[i * k + j] * channels;
          const float* from = grad + i * channels;
          for (int64_t c = c0; c < c1; ++c) to[c] += from[c];
        }
    });
    return OK;
  });
}
