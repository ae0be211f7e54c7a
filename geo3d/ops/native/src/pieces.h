// Clouds cut into runs of rows, so that threads have equal work whatever the sizes; and how to join the runs' results.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace geo3d {

// A run of rows of one cloud.
struct Run {
  int64_t cloud, start, stop;
};

inline std::vector<Run> runs_of(const int64_t* ptr, int64_t clouds, int64_t length) {
  std::vector<Run> found;
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t start = ptr[b]; start < ptr[b + 1]; start += length)
      found.push_back({b, start, std::min(ptr[b + 1], start + length)});
  return found;
}

inline bool offsets_rise(const int64_t* ptr, int64_t clouds, int64_t rows) {
  for (int64_t b = 0; b < clouds; ++b)
    if (ptr[b] >= ptr[b + 1]) return false;
  return clouds > 0 && ptr[0] == 0 && ptr[clouds] == rows;
}

// out (clouds, 2 C, `out_stride` apart): maximum and mean, from the maxima and sums of the runs (runs, 2, `width`). The
// sums are added one after another, from zero.
inline void join_runs(const std::vector<Run>& all, const int64_t* ptr, int64_t clouds, int64_t channels,
                      const float* found, int64_t width, float* out, int64_t out_stride) {
  for (int64_t b = 0; b < clouds; ++b) {
    std::fill(out + b * out_stride, out + b * out_stride + channels, -INFINITY);
    std::fill(out + b * out_stride + channels, out + b * out_stride + 2 * channels, 0.0f);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    float* to = out + all[i].cloud * out_stride;
    const float* from = found + (int64_t)i * 2 * width;
    for (int64_t c = 0; c < channels; ++c) to[c] = to[c] > from[c] ? to[c] : from[c];
    for (int64_t c = 0; c < channels; ++c) to[channels + c] += from[width + c];
  }
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t c = 0; c < channels; ++c) out[b * out_stride + channels + c] /= (float)(ptr[b + 1] - ptr[b]);
}

}  // namespace geo3d
