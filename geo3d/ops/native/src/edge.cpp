// Edge convolutions per point: y_ij = a_i + b_j for the k neighbours j of each point i, never stored for all edges.
//
// a and b are stored side by side, ab (rows, 2 C) = [a | b], with C a multiple of 16 (the caller pads with zeros).
#include <algorithm>
#include <cmath>
#include <vector>

#include "api.h"
#include "parallel.h"
#include "simd.h"
#include "sums.h"
#include "table.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 128;               // rows of a task; sums are float32 inside, double across

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

template <int V>
struct Best {
  Floats top[V];

  // b: the first row's channels; rows `stride` apart.
  Best(const float* b, int64_t stride, const int64_t* index, int64_t k) {
    for (int v = 0; v < V; ++v) top[v] = load(b + index[0] * stride + v * LANES);
    for (int64_t j = 1; j < k; ++j)
      for (int v = 0; v < V; ++v) top[v] = max(load(b + index[j] * stride + v * LANES), top[v]);
  }
};

// out = act((a + max b) * scale + shift) for one row and V vectors of channels.
template <int V>
void evaluate(const float* a, const float* b, int64_t stride, const int64_t* index, int64_t k, const float* scale,
              const float* shift, float slope, float* out) {
  Best<V> best(b, stride, index, k);
  for (int v = 0; v < V; ++v) {
    Floats z = (best.top[v] + load(a + v * LANES)) * load(scale + v * LANES) + load(shift + v * LANES);
    store(out + v * LANES, z > 0.0f ? z : z * slope);
  }
}

// Maximum, slot and sums over the edges of one row, in training.
template <int V>
void collect(const float* a, const float* b, int64_t stride, const int64_t* index, int64_t k, const float* shift_a,
             const float* shift_b, float* top, float* sum, uint8_t* slot, float* total, float* square) {
  Floats best[V], own[V], added[V], squared[V], near[V];
  Ints which[V];
  for (int v = 0; v < V; ++v) {
    Floats x = load(a + v * LANES);
    near[v] = x - load(shift_a + v * LANES) - load(shift_b + v * LANES);
    best[v] = load(b + index[0] * stride + v * LANES), which[v] = Ints{};
    Floats y = best[v] + near[v];
    added[v] = y, squared[v] = y * y, own[v] = x;
  }
  for (int64_t j = 1; j < k; ++j) {
    const float* row = b + index[j] * stride;
    Ints number = splat((int32_t)j);
    for (int v = 0; v < V; ++v) {
      Floats x = load(row + v * LANES), y = x + near[v];
      which[v] = x > best[v] ? number : which[v];
      best[v] = x > best[v] ? x : best[v];
      added[v] += y, squared[v] += y * y;
    }
  }
  for (int v = 0; v < V; ++v) {
    store(top + v * LANES, best[v] + own[v]);
    store(sum + v * LANES, added[v]);
    store(total + v * LANES, load(total + v * LANES) + added[v]);
    store(square + v * LANES, load(square + v * LANES) + squared[v]);
    Bytes bytes = __builtin_convertvector(which[v], Bytes);
    std::memcpy(slot + v * LANES, &bytes, sizeof bytes);
  }
}

struct Gradient {
  int64_t k, channels;
  const int64_t* neighbors;
  const float *ab, *sum, *grad, *out;
  const uint8_t* slot;
  const float *scale, *first, *second, *center, *shift_a, *center_b;  // (C,): see geo3d_edge_backward
  float slope;
  float* grad_ab;

  // Gradients of rows [start, stop), whose edges stay among them, in V vectors of channels from c on.
  template <int V>
  void run(int64_t start, int64_t stop, int64_t c, float* received, const int32_t* degree) const {
    constexpr int WIDE = V * LANES;
    std::memset(received, 0, (size_t)((stop - start) * WIDE) * sizeof(float));
    for (int64_t i = start; i < stop; ++i) give<V>(i, c, received - start * WIDE);
    for (int64_t j = start; j < stop; ++j)
      for (int v = 0; v < V; ++v) {
        int64_t at = j * 2 * channels + channels + c + v * LANES, of = c + v * LANES;
        Floats own = (load(first + of) + load(second + of) * (load(ab + at) - load(center_b + of))) * (float)degree[j];
        store(grad_ab + at, load(received + (j - start) * WIDE + v * LANES) - own);
      }
  }

 private:
  // The gradient of a_i, and what i adds to its neighbours' gradients: to all through the variance, to the largest dz.
  template <int V>
  void give(int64_t i, int64_t c, float* received) const {
    constexpr int WIDE = V * LANES;
    const int64_t* index = neighbors + i * k;
    Floats share[V];
    float chosen[WIDE];
    for (int v = 0; v < V; ++v) {
      int64_t at = i * channels + c + v * LANES, of = c + v * LANES;
      Floats d = load(grad + at), w = load(second + of);
      Floats dz = (load(out + at) > 0.0f ? d : d * slope) * load(scale + of);
      Floats of_edges = load(first + of) * (float)k + w * (load(sum + at) - load(center + of) * (float)k);
      store(grad_ab + i * 2 * channels + of, dz - of_edges);
      share[v] = w * (load(shift_a + of) - load(ab + i * 2 * channels + of));
      store(chosen + v * LANES, dz);
    }
    for (int64_t j = 0; j < k; ++j) {
      float* to = received + index[j] * WIDE;
      for (int v = 0; v < V; ++v) store(to + v * LANES, load(to + v * LANES) + share[v]);
    }
    const uint8_t* which = slot + i * channels + c;
    for (int q = 0; q < WIDE; ++q) received[index[which[q]] * WIDE + q] += chosen[q];
  }
};

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// out (rows, C, `out_stride` apart) = act((a_i + max_j b_j) * scale + shift), act(z) = z > 0 ? z : slope z.
GEO3D_API int32_t geo3d_edge_evaluate(int32_t threads, int64_t rows, int64_t k, int64_t channels, const float* ab,
                                      const int64_t* neighbors, const float* scale, const float* shift, float slope,
                                      float* out, int64_t out_stride) {
  return guarded([&]() -> int32_t {
    Fault fault;
    parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
      int64_t start = block * BLOCK, stop = std::min(rows, start + BLOCK), stride = 2 * channels;
      if (!in_range(neighbors + start * k, (stop - start) * k, rows)) return fault.raise(BAD_INDEX);
      each_group(channels, [&](auto group, int64_t c) {
        for (int64_t i = start; i < stop; ++i)
          evaluate<decltype(group)::value>(ab + i * stride + c, ab + channels + c, stride, neighbors + i * k, k,
                                           scale + c,
                                           shift + c, slope, out + i * out_stride + c);
      });
    });
    return fault.status();
  });
}

// For each row (rows, C): the largest y (a_i + max_j b_j), its slot, and the sum of y - shift_a - shift_b over its
// edges. totals (2, C): sums of y - shift_a - shift_b, and of its square, over all edges. k is at most 256.
GEO3D_API int32_t geo3d_edge_collect(int32_t threads, int64_t rows, int64_t k, int64_t channels, const float* ab,
                                     const int64_t* neighbors, const float* shift_a, const float* shift_b, float* top,
                                     float* sum, uint8_t* slot, double* totals) {
  return guarded([&]() -> int32_t {
    Fault fault;
    int64_t blocks = ceil_div(rows, BLOCK), stride = 2 * channels;
    Scratch<float> parts(blocks * 2 * channels);
    parallel(threads, blocks, [&](int64_t block) {
      int64_t start = block * BLOCK, stop = std::min(rows, start + BLOCK);
      float* part = parts + block * 2 * channels;
      std::memset(part, 0, (size_t)(2 * channels) * sizeof(float));
      if (!in_range(neighbors + start * k, (stop - start) * k, rows)) return fault.raise(BAD_INDEX);
      each_group(channels, [&](auto group, int64_t c) {
        for (int64_t i = start; i < stop; ++i) {
          int64_t at = i * channels + c;
          collect<decltype(group)::value>(ab + i * stride + c, ab + channels + c, stride, neighbors + i * k, k,
                                          shift_a + c,
                                          shift_b + c, top + at, sum + at, slot + at, part + c, part + channels + c);
        }
      });
    });
    add_parts(parts, blocks, 2 * channels, totals);
    return fault.status();
  });
}

// out = act(top * scale + shift).
GEO3D_API int32_t geo3d_edge_activate(int32_t threads, int64_t rows, int64_t channels, const float* top,
                                      const float* scale, const float* shift, float slope, float* out) {
  return guarded([&] {
    parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
      for (int64_t i = block * BLOCK; i < std::min(rows, (block + 1) * BLOCK); ++i)
        for (int64_t c = 0; c < channels; c += LANES) {
          Floats z = load(top + i * channels + c) * load(scale + c) + load(shift + c);
          store(out + i * channels + c, z > 0.0f ? z : z * slope);
        }
    });
    return OK;
  });
}

// totals (2, C): the sums over all rows of dz, the gradient before the activation, and of dz (top - mean).
GEO3D_API int32_t geo3d_edge_reduce(int32_t threads, int64_t rows, int64_t channels, const float* grad, const float* out,
                                    const float* top, const float* mean, float slope, double* totals) {
  return guarded([&] {
    int64_t blocks = ceil_div(rows, BLOCK);
    Scratch<float> parts(blocks * 2 * channels);
    parallel(threads, blocks, [&](int64_t block) {
      each_group(channels, [&](auto group, int64_t c) {
        constexpr int V = decltype(group)::value;
        Floats plain[V] = {}, weighted[V] = {}, middle[V];
        for (int v = 0; v < V; ++v) middle[v] = load(mean + c + v * LANES);
        for (int64_t i = block * BLOCK; i < std::min(rows, (block + 1) * BLOCK); ++i)
          for (int v = 0; v < V; ++v) {
            int64_t at = i * channels + c + v * LANES;
            Floats d = load(grad + at), dz = load(out + at) > 0.0f ? d : d * slope;
            plain[v] += dz, weighted[v] += dz * (load(top + at) - middle[v]);
          }
        for (int v = 0; v < V; ++v) {
          store(parts + block * 2 * channels + c + v * LANES, plain[v]);
          store(parts + (block * 2 + 1) * channels + c + v * LANES, weighted[v]);
        }
      });
    });
    add_parts(parts, blocks, 2 * channels, totals);
    return OK;
  });
}

// The gradient of ab through y -> (y - mean) rstd -> act -> max, when the statistics are those of all edges:
// per edge it is g (dz [is the largest] - m1 - m2 rstd (y - mean)).
//
// scale: g; first: g m1; second: g m2 rstd; center: mean - shift_a - shift_b, for `sum`; center_b: mean - shift_a,
// which is subtracted from b where shift_a is subtracted from a.
GEO3D_API int32_t geo3d_edge_backward(int32_t threads, int64_t rows, int64_t k, int64_t channels, const float* ab,
                                      const int64_t* neighbors, const float* sum, const uint8_t* slot,
                                      const float* grad,
                                      const float* out, const float* scale, const float* first, const float* second,
                                      const float* center, const float* shift_a, const float* center_b, float slope,
                                      float* grad_ab) {
  return guarded([&]() -> int32_t {
    if (!in_range(neighbors, rows * k, rows)) return BAD_INDEX;
    Gradient gradient{k,     channels, neighbors,  ab,     sum,     grad,     out,   slot,
                      scale, first,    second, center, shift_a, center_b, slope, grad_ab};
    std::vector<int64_t> cut = cuts(threads, neighbors, rows, k, 256);
    constexpr int PAIR = 2 * LANES;
    int64_t parts = (int64_t)cut.size() - 1, columns = ceil_div(channels, PAIR);
    std::vector<int32_t> degree((size_t)rows, 0);
    parallel(threads, parts, [&](int64_t part) {
      for (int64_t e = cut[part] * k; e < cut[part + 1] * k; ++e) ++degree[neighbors[e]];
    });
    parallel(threads, parts * columns, [&](int64_t task) {
      int64_t start = cut[task / columns], stop = cut[task / columns + 1], c = task % columns * PAIR;
      Scratch<float> received((stop - start) * PAIR);
      if (c + PAIR <= channels) {
        gradient.run<2>(start, stop, c, received, degree.data());
      } else {
        gradient.run<1>(start, stop, c, received, degree.data());
      }
    });
    return OK;
  });
}
