// The layer before the global pooling: linear, norm, activation, then maximum and mean over the points of each cloud.
//
// act(z) = z > 0 ? z : slope z, z = h scale + shift. C, the channels of h, is a multiple of 16 (the caller pads).
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "api.h"
#include "gemm.h"
#include "outer.h"
#include "sums.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 192;    // rows of a task
constexpr int64_t COLUMNS = 128;  // channels of a task

// A run of rows of one cloud.
struct Piece {
  int64_t cloud, start, stop;
};

std::vector<Piece> pieces(const int64_t* ptr, int64_t clouds, int64_t length) {
  std::vector<Piece> found;
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t start = ptr[b]; start < ptr[b + 1]; start += length)
      found.push_back({b, start, std::min(ptr[b + 1], start + length)});
  return found;
}

bool rising(const int64_t* ptr, int64_t clouds, int64_t rows) {
  for (int64_t b = 0; b < clouds; ++b)
    if (ptr[b] >= ptr[b + 1]) return false;
  return clouds > 0 && ptr[0] == 0 && ptr[clouds] == rows;
}

Floats activate(Floats z, float slope) { return z > 0.0f ? z : z * slope; }

// Joins the results of the pieces (2, C each: largest, sum) into maximum and mean of their clouds.
void join(const std::vector<Piece>& all, const int64_t* ptr, int64_t clouds, int64_t channels, const float* found,
          float* out) {
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t c = 0; c < channels; ++c) out[b * 2 * channels + c] = -INFINITY, out[(b * 2 + 1) * channels + c] = 0.0f;
  for (size_t i = 0; i < all.size(); ++i) {
    float* to = out + all[i].cloud * 2 * channels;
    const float* from = found + (int64_t)i * 2 * channels;
    for (int64_t c = 0; c < channels; ++c) {
      to[c] = std::max(to[c], from[c]);
      to[channels + c] += from[channels + c];
    }
  }
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t c = 0; c < channels; ++c) out[(b * 2 + 1) * channels + c] /= (float)(ptr[b + 1] - ptr[b]);
}

// Maximum, its row, and mean of one cloud in V vectors of channels from c on.
template <int V>
void pool_columns(int64_t start, int64_t stop, int64_t channels, int64_t c, const float* h, const float* scale,
                  const float* shift, float slope, float* out, int64_t* winner) {
  Floats factor[V], offset[V], top[V], sum[V] = {};
  Ints which[V] = {};
  for (int v = 0; v < V; ++v) {
    factor[v] = load(scale + c + v * LANES), offset[v] = load(shift + c + v * LANES), top[v] = splat(-INFINITY);
  }
  for (int64_t i = start; i < stop; ++i) {
    Ints number = splat((int32_t)(i - start));
    for (int v = 0; v < V; ++v) {
      Floats y = activate(load(h + i * channels + c + v * LANES) * factor[v] + offset[v], slope);
      sum[v] += y, which[v] = y > top[v] ? number : which[v], top[v] = max(y, top[v]);
    }
  }
  for (int v = 0; v < V; ++v) {
    store(out + c + v * LANES, top[v]);
    store(out + channels + c + v * LANES, sum[v] * (1.0f / (float)(stop - start)));
    for (int q = 0; q < LANES; ++q) winner[c + v * LANES + q] = start + which[v][q];
  }
}

// The gradient of h (rows, C): through the mean it reaches every row, through the maximum one row for each channel.
struct Backward {
  int64_t channels;
  const int64_t *ptr, *cloud_of, *winner;        // (B + 1,), (rows,), (B, C): rows that were largest
  const float *h, *grad, *scale, *shift, *mean;  // grad (B, 2 C)
  const float *first, *second;                   // (C,) m1 and m2 rstd
  float slope;

  // The gradient through the mean, before the activation, for LANES channels from c on.
  Floats before(int64_t row, int64_t c) const {
    int64_t b = cloud_of[row];
    Floats d = load(grad + (b * 2 + 1) * channels + c) * (1.0f / (float)(ptr[b + 1] - ptr[b]));
    Floats z = load(h + row * channels + c) * load(scale + c) + load(shift + c);
    return z > 0.0f ? d : d * slope;
  }
  // The gradient through the maximum, before the activation, at row winner[b, c].
  float direct(int64_t b, int64_t c) const {
    float d = grad[b * 2 * channels + c];
    return h[winner[b * channels + c] * channels + c] * scale[c] + shift[c] > 0.0f ? d : d * slope;
  }
  // The gradient at h, without the part through the maximum.
  Floats at(int64_t row, int64_t c) const {
    Floats centered = load(h + row * channels + c) - load(mean + c);
    return load(scale + c) * (before(row, c) - load(first + c) - centered * load(second + c));
  }
  // Calls f(row, c, gradient at h through the maximum) for the winners among rows [start, stop) in channels [c0, c1).
  template <class F>
  void winners(int64_t start, int64_t stop, int64_t c0, int64_t c1, F&& f) const {
    for (int64_t b = cloud_of[start]; b <= cloud_of[stop - 1]; ++b)
      for (int64_t c = c0; c < c1; ++c) {
        int64_t row = winner[b * channels + c];
        if (row >= start && row < stop) f(row, c, scale[c] * direct(b, c));
      }
  }
};

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// out (B, 2 C) = maximum and mean over each cloud of act((x w^T) scale + shift); x (rows, depth), w (C, depth).
GEO3D_API int32_t geo3d_linear_pool(int32_t threads, int64_t rows, int64_t channels, int64_t depth, int64_t clouds,
                                    const int64_t* ptr, const float* x, const float* w, const float* scale,
                                    const float* shift, float slope, float* out) {
  return guarded([&]() -> int32_t {
    if (!rising(ptr, clouds, rows)) return BAD_OFFSETS;
    int64_t chunks = ceil_div(channels, COLUMNS);
    std::vector<Piece> all = pieces(ptr, clouds, BLOCK);
    Scratch<float> packed(chunks * COLUMNS * depth), found((int64_t)all.size() * 2 * channels);
    parallel(threads, chunks, [&](int64_t i) {
      pack_transposed(w + i * COLUMNS * depth, depth, depth, std::min(COLUMNS, channels - i * COLUMNS),
                      packed + i * COLUMNS * depth);
    });
    parallel(threads, (int64_t)all.size() * chunks, [&](int64_t task) {
      const Piece& piece = all[(size_t)(task / chunks)];
      int64_t first = task % chunks * COLUMNS, width = std::min(COLUMNS, channels - first);
      float* to = found + task / chunks * 2 * channels + first;
      Floats top[COLUMNS / LANES], sum[COLUMNS / LANES];
      for (int v = 0; v < COLUMNS / LANES; ++v) top[v] = splat(-INFINITY), sum[v] = Floats{};
      Rows part(depth);
      Tile tile;
      for (int64_t i = piece.start; i < piece.stop; i += MR)
        for (int64_t p = 0; p < panels(width); ++p) {
          int64_t height = std::min<int64_t>(MR, piece.stop - i);
          part.multiply(tile, x + i * depth, depth, height, packed + (first + p * NR) * depth, nullptr);
          for (int half = 0; half < 2; ++half) {
            int64_t c = p * NR + half * LANES;
            if (c >= width) break;
            Floats factor = load(scale + first + c), offset = load(shift + first + c);
            Floats &high = top[c / LANES], &total = sum[c / LANES];
            for (int64_t r = 0; r < height; ++r) {
              Floats y = activate(tile.value[r][half] * factor + offset, slope);
              high = max(y, high), total += y;
            }
          }
        }
      for (int64_t c = 0; c < width; c += LANES)
        store(to + c, top[c / LANES]), store(to + channels + c, sum[c / LANES]);
    });
    join(all, ptr, clouds, channels, found, out);
    return OK;
  });
}

// out (B, 2 C): maximum and mean over each cloud of act(h scale + shift); winner (B, C): the first largest row.
GEO3D_API int32_t geo3d_pool(int32_t threads, int64_t rows, int64_t channels, int64_t clouds, const int64_t* ptr,
                             const float* h, const float* scale, const float* shift, float slope, float* out,
                             int64_t* winner) {
  return guarded([&]() -> int32_t {
    if (!rising(ptr, clouds, rows)) return BAD_OFFSETS;
    int64_t chunks = ceil_div(channels, COLUMNS);
    parallel(threads, clouds * chunks, [&](int64_t task) {
      int64_t b = task / chunks, first = task % chunks * COLUMNS, last = std::min(channels, first + COLUMNS);
      each_group(last - first, [&](auto group, int64_t of) {
        pool_columns<decltype(group)::value>(ptr[b], ptr[b + 1], channels, first + of, h, scale, shift, slope,
                                             out + b * 2 * channels, winner + b * channels);
      });
    });
    return OK;
  });
}

// totals (2, C): sums over all rows of dz, the gradient before the activation, and of dz (h - mean).
GEO3D_API int32_t geo3d_pool_reduce(int32_t threads, int64_t rows, int64_t channels, int64_t clouds,
                                    const int64_t* ptr, const int64_t* cloud_of, const int64_t* winner, const float* h,
                                    const float* grad, const float* scale, const float* shift, const float* mean,
                                    float slope, double* totals) {
  return guarded([&] {
    Backward back{channels, ptr, cloud_of, winner, h, grad, scale, shift, mean, nullptr, nullptr, slope};
    int64_t blocks = ceil_div(rows, BLOCK);
    Scratch<float> parts(blocks * 2 * channels);
    parallel(threads, blocks, [&](int64_t block) {
      int64_t start = block * BLOCK, stop = std::min(rows, start + BLOCK);
      each_group(channels, [&](auto group, int64_t c) {
        constexpr int V = decltype(group)::value;
        Floats plain[V] = {}, weighted[V] = {};
        for (int64_t i = start; i < stop; ++i)
          for (int v = 0; v < V; ++v) {
            int64_t of = c + v * LANES;
            Floats dz = back.before(i, of);
            plain[v] += dz, weighted[v] += dz * (load(h + i * channels + of) - load(mean + of));
          }
        float* to = parts + block * 2 * channels + c;
        for (int v = 0; v < V; ++v) store(to + v * LANES, plain[v]), store(to + channels + v * LANES, weighted[v]);
      });
    });
    add_parts(parts, blocks, 2 * channels, totals);
    for (int64_t b = 0; b < clouds; ++b)
      for (int64_t c = 0; c < channels; ++c) {
        double d = back.direct(b, c);
        totals[c] += d;
        totals[channels + c] += d * ((double)h[winner[b * channels + c] * channels + c] - mean[c]);
      }
    return OK;
  });
}

// grad_x (rows, depth) and grad_w (C, depth) of h = x w^T. The gradient of h is computed for some rows at a time and
// used while it is in the cache. first: m1 (mean of dz); second: m2 rstd (m2 the mean of dz times the normalised h).
GEO3D_API int32_t geo3d_pool_backward(int32_t threads, int64_t rows, int64_t channels, int64_t depth, const int64_t* ptr,
                                      const int64_t* cloud_of, const int64_t* winner, const float* h, const float* grad,
                                      const float* scale, const float* shift, const float* mean, const float* first,
                                      const float* second, float slope, const float* x, const float* w, float* grad_x,
                                      float* grad_w) {
  return guarded([&] {
    Backward back{channels, ptr, cloud_of, winner, h, grad, scale, shift, mean, first, second, slope};
    constexpr int64_t HEIGHT = 8 * MR, BLOCKS = 20;
    int64_t stride = channels + LANES;  // rows a power of two apart would fall into the same places of the cache
    Scratch<float> packed(channels * round_up(depth, NR)), at_h(HEIGHT * BLOCKS * stride);
    parallel(threads, panels(depth), [&](int64_t p) {
      pack(w + p * NR, depth, channels, std::min<int64_t>(NR, depth - p * NR), packed + p * NR * channels);
    });
    std::fill(grad_w, grad_w + channels * depth, 0.0f);
    for (int64_t begin = 0; begin < rows; begin += HEIGHT * BLOCKS) {
      int64_t end = std::min(rows, begin + HEIGHT * BLOCKS);
      parallel(threads, ceil_div(end - begin, HEIGHT), [&](int64_t block) {
        int64_t start = begin + block * HEIGHT, height = std::min(HEIGHT, end - start);
        float* d = at_h + block * HEIGHT * stride;
        for (int64_t i = 0; i < height; ++i)
          for (int64_t c = 0; c < channels; c += LANES) store(d + i * stride + c, back.at(start + i, c));
        back.winners(start, start + height, 0, channels,
                     [&](int64_t row, int64_t c, float more) { d[(row - start) * stride + c] += more; });
        Rows part(channels);
        for (int64_t p = 0; p < panels(depth); ++p)
          multiply_packed(d, stride, height, channels, packed + p * NR * channels,
                          std::min<int64_t>(NR, depth - p * NR), nullptr, grad_x + start * depth + p * NR, depth, part);
      });
      outer<true>(threads, end - begin, channels, depth, x + begin * depth, depth, grad_w,
                  [&](int64_t row, int64_t count, int64_t i, float* to) {
                    pack_rows(at_h + row * stride + i, stride, count, std::min<int64_t>(MR, channels - i), to);
                  });
    }
    return OK;
  });
}
