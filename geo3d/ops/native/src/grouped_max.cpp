// Shared MLP on grouped rows and the maximum of each group, with known statistics: only the maxima are kept.
#include <memory>

#include "clouds.h"
#include "grouped_maxima.h"

namespace geo3d {
namespace {

void set(Affine& norm, const float* bias, const float* gamma, const float* beta, const float* mean, const float* var,
         float eps) {
  for (int64_t c = 0; c < norm.channels; ++c) {
    norm.center()[c] = mean[c] - (bias ? bias[c] : 0.0f);
    norm.scale()[c] = gamma[c] / __builtin_sqrtf(var[c] + eps);
    norm.shift()[c] = beta[c];
  }
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// out (groups, channels of the last layer): the maxima. Layer 0 is the source, with channels[0]; the others have
// weights[l - 1] (channels[l], channels[l - 1]). norms: for each layer bias, gamma, beta, mean and variance.
GEO3D_API int32_t geo3d_grouped_max(int32_t threads, int64_t groups, int64_t k, int64_t points, const float* of_points,
                                    const float* of_groups, const float* pos, const float* centers,
                                    const float* offset_weight, const int64_t* neighbors, const int64_t* count, int64_t layers,
                                    const int64_t* channels, const int64_t* weights, const int64_t* norms, float eps,
                                    int64_t activated, float slope, float* out) {
  return guarded([&]() -> int32_t {
    Source source{groups, k, points, channels[0], of_points, of_groups, pos, centers, offset_weight, neighbors, count};
    Status status;
    Grouping rows(source, status);
    if (status != OK) return status;
    // A ReLU or a maximum could swallow what is not a number.
    if ((of_points && !all_finite(of_points, points * channels[0])) ||
        (of_groups && !all_finite(of_groups, groups * channels[0])) ||
        (neighbors && pos && !(all_finite(pos, 3 * points) && all_finite(centers, 3 * groups))))
      return NOT_FINITE;
    std::vector<std::unique_ptr<Packed>> packed;
    std::vector<std::unique_ptr<Affine>> affine;
    int64_t widest = 0, last = layers - 1;
    for (int64_t l = 0; l < layers; ++l) {
      if (l) packed.emplace_back(new Packed(threads, address(weights, l - 1), channels[l - 1], channels[l]));
      affine.emplace_back(new Affine(channels[l], slope));
      const int64_t* n = norms + 5 * l;
      set(*affine.back(), address(n, 0), address(n, 1), address(n, 2), address(n, 3), address(n, 4), eps);
      if (l < last) widest = std::max(widest, wide(channels[l]));
    }
    Maxima maxima(rows, channels[last], out, nullptr);
    Parts parts(rows.blocks());
    parallel(threads, parts.count, [&](int64_t part) {
      Scratch<float> one(rows.step * widest), two(rows.step * widest);
      for (int64_t block = parts.first(part); block < parts.first(part + 1); ++block) {
        float *x = one, *y = two;
        int64_t height = rows.rows_of(block);
        rows.fill(block, x);
        affine[0]->activate(x, height, x);
        for (int64_t l = 1; l < last; ++l, std::swap(x, y)) {
          const Affine& norm = *affine[(size_t)l];
          multiply_block(x, height, channels[l - 1], packed[(size_t)l - 1]->data, channels[l], nullptr,
                         [&](const Tile& tile, int64_t r, int64_t n, int64_t c) {
                           float* to = y + r * norm.width + c;
                           for (int64_t i = 0; i < n; ++i, to += norm.width)
                             for (int h = 0; h < NR; h += LANES)
                               store(to + h, norm.bend(norm.apply(tile.value[i][h / LANES], c + h)));
                         });
        }
        Maxima::Walk walk(maxima, block);
        const Affine& norm = *affine[(size_t)last];
        multiply_block(x, height, channels[last - 1], packed[(size_t)last - 1]->data, channels[last], nullptr,
                       [&](const Tile& tile, int64_t r, int64_t n, int64_t c) {
                         walk.next(r, n, c, [&](int64_t i, int h) {
                           Floats z = norm.apply(tile.value[i][h], c + h * LANES);
                           return activated ? norm.bend(z) : z;
                         });
                       });
      }
    });
    maxima.join();
    return OK;
  });
}
