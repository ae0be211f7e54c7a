// Sums over all windows of consecutive channels, with the channels in a given order; and the gradients.
//
// Rows are processed LANES at a time, transposed, so that a vector holds one channel of all of them. Nothing is ever
// subtracted: channels are cut into blocks as long as a window, and a window is the sum of the end of one block and the
// beginning of the next. So the error is that of adding up its terms.
#include <algorithm>
#include <utility>
#include <vector>

#include "api.h"
#include "parallel.h"
#include "simd.h"

namespace geo3d {
namespace {

constexpr int64_t GROUPS = 4;  // of LANES rows to a task

Floats shuffled(Floats a, Floats b, Ints mask) {
#if defined(__clang__)
  Floats out;
  for (int i = 0; i < LANES; ++i) out[i] = mask[i] < LANES ? a[mask[i]] : b[mask[i] - LANES];
  return out;
#else
  return __builtin_shuffle(a, b, mask);
#endif
}

// Exchanges the off-diagonal squares of width H in every square of width 2 H.
template <int H>
inline void exchange(Floats* v) {
  Ints lane = iota(), second = (lane & H) != 0;
  Ints first = second ? lane + (LANES - H) : lane, other = second ? lane + LANES : lane + H;
#pragma GCC unroll 8
  for (int n = 0; n < LANES / 2; ++n) {
    int i = n / H * 2 * H + n % H;
    Floats a = v[i], b = v[i + H];
    v[i] = shuffled(a, b, first), v[i + H] = shuffled(a, b, other);
  }
}

inline void transpose(Floats* v) {
  exchange<1>(v), exchange<2>(v);
  if constexpr (LANES > 4) exchange<4>(v);
  if constexpr (LANES > 8) exchange<8>(v);
}

// to[place[c]] = channel c of `rows` <= LANES rows; without `place`, to[c].
void take(const float* x, int64_t rows, int64_t channels, const int64_t* place, Floats* to) {
  for (int64_t c = 0; c < channels; c += LANES) {
    int64_t width = std::min<int64_t>(LANES, channels - c);
    Floats v[LANES];
    for (int64_t i = 0; i < LANES; ++i) {
      const float* from = x + i * channels + c;
      v[i] = i >= rows ? Floats{} : width == LANES ? load(from) : load_part(from, width, Floats{});
    }
    transpose(v);
    for (int64_t i = 0; i < width; ++i) to[place ? place[c + i] : c + i] = v[i];
  }
}

// The inverse of take, times `scale`.
void give(const Floats* from, int64_t rows, int64_t channels, const int64_t* place, float scale, float* out) {
  for (int64_t c = 0; c < channels; c += LANES) {
    int64_t width = std::min<int64_t>(LANES, channels - c);
    Floats v[LANES];
    for (int64_t i = 0; i < LANES; ++i)
      v[i] = i < width ? from[place ? place[c + i] : c + i] * scale : Floats{};
    transpose(v);
    for (int64_t i = 0; i < rows; ++i) {
      float* to = out + i * channels + c;
      width == LANES ? store(to, v[i]) : store_part(to, width, v[i]);
    }
  }
}

Floats total(const Floats* x, int64_t count) {
  Floats sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int j = 0; j < 4; ++j) sum[j] += x[i + j];
  for (; i < count; ++i) sum[0] += x[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// out[r] = x[r] + ... + x[r + length - 1] for r in [0, count).
void slide(const Floats* x, int64_t length, int64_t count, Floats* out) {
  for (int64_t start = 0; start < count; start += length) {
    int64_t border = start + length, stop = std::min(border, count);
    Floats sum = total(x + stop, border - stop);
    for (int64_t r = stop; r-- > start;) out[r] = sum += x[r];
    sum = Floats{};
    for (int64_t r = start + 1; r < stop; ++r) out[r] += sum += x[r + length - 1];
  }
}

// place[order[p]] = p; false unless `order` names every channel once.
bool places(const int64_t* order, int64_t channels, std::vector<int64_t>& place) {
  if (!order) return true;
  place.assign((size_t)channels, -1);
  for (int64_t p = 0; p < channels; ++p) {
    if (order[p] < 0 || order[p] >= channels || place[order[p]] >= 0) return false;
    place[order[p]] = p;
  }
  return true;
}

// Calls f(first row, how many, buffer, buffer) for groups of rows; the buffers hold `inner` and `outer` vectors.
template <class F>
void each_group(int threads, int64_t rows, int64_t inner, int64_t outer, F&& f) {
  parallel(threads, ceil_div(rows, GROUPS * LANES), [&](int64_t task) {
    Scratch<Floats> a(inner), b(outer);
    int64_t stop = std::min(rows, (task + 1) * GROUPS * LANES);
    for (int64_t i = task * GROUPS * LANES; i < stop; i += LANES)
      f(i, std::min<int64_t>(LANES, stop - i), (Floats*)a, (Floats*)b);
  });
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// out (rows, rank): scale times the sums of x (rows, channels) over windows of channels - rank + 1, in `order` if it is
// not null.
GEO3D_API int32_t geo3d_sliding_sum(int32_t threads, int64_t rows, int64_t channels, int64_t rank, const float* x,
                                    const int64_t* order, float scale, float* out) {
  return guarded([&] {
    std::vector<int64_t> place;
    if (!places(order, channels, place)) return BAD_INDEX;
    each_group(threads, rows, channels, rank, [&](int64_t i, int64_t count, Floats* a, Floats* b) {
      take(x + i * channels, count, channels, order ? place.data() : nullptr, a);
      slide(a, channels - rank + 1, rank, b);
      give(b, count, rank, nullptr, scale, out + i * rank);
    });
    return OK;
  });
}

// out (rows, channels): the gradient of each channel, from the windows' gradients (rows, rank).
GEO3D_API int32_t geo3d_sliding_spread(int32_t threads, int64_t rows, int64_t channels, int64_t rank, const float* grad,
                                       const int64_t* order, float scale, float* out) {
  return guarded([&] {
    std::vector<int64_t> place;
    if (!places(order, channels, place)) return BAD_INDEX;
    int64_t length = channels - rank + 1, margin = length - 1;
    // A channel gathers over the windows that it lies in: again a window, of gradients with zeros on either side.
    each_group(threads, rows, rank + 2 * margin, channels, [&](int64_t i, int64_t count, Floats* a, Floats* b) {
      std::fill(a, a + margin, Floats{}), std::fill(a + margin + rank, a + rank + 2 * margin, Floats{});
      take(grad + i * rank, count, rank, nullptr, a + margin);
      slide(a, length, channels, b);
      give(b, count, channels, order ? place.data() : nullptr, scale, out + i * channels);
    });
    return OK;
  });
}
