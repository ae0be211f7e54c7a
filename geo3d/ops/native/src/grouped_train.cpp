// As grouped_max.cpp, in training: each layer needs the statistics of all rows, so each layer takes a pass over them.
#include "grouped_layers.h"
#include "grouped_maxima.h"

namespace geo3d {
namespace {

// Mean and variance of columns. Each block has its own sums, taken about a value near its mean.
class Moments {
 public:
  Moments(const Grouping& rows, int64_t channels)
      : rows_(rows), channels_(channels), width_(wide(channels)), sums_(3 * rows.blocks() * width_) {}

  // Adds `height` rows of NR columns, each as two vectors as in a tile; r is the place of the first row in the block.
  void add(const Floats (*value)[2], int64_t r, int64_t height, const float* mu, int64_t block, int64_t column) {
    for (int half = 0; half < 2; ++half) {
      float* at = sums_ + 3 * block * width_ + column + half * LANES;
      Floats guess{}, sum{}, square{};
      if (r == 0) {
        for (int64_t i = 0; i < height; ++i) guess += value[i][half];
        store(at, guess = guess / (float)height);
      } else {
        guess = load(at), sum = load(at + width_), square = load(at + 2 * width_);
      }
      for (int64_t i = 0; i < height; ++i) {
        Floats d = value[i][half] - guess, weighted = mu[i] * d;
        sum += weighted, square += weighted * d;
      }
      store(at + width_, sum), store(at + 2 * width_, square);
    }
  }

  void add(const float* rows, int64_t height, const float* mu, int64_t block) {
    Floats value[MR][2];
    for (int64_t c = 0; c < width_; c += NR)
      for (int64_t r = 0; r < height; r += MR) {
        int64_t n = std::min<int64_t>(MR, height - r);
        for (int64_t i = 0; i < n; ++i)
          for (int h = 0; h < 2; ++h) value[i][h] = load(rows + (r + i) * width_ + c + h * LANES);
        add(value, r, n, mu + r, block, c);
      }
  }

  void join(const std::vector<double>& weights, float* mean, float* var) const {
    for (int64_t c = 0; c < channels_; ++c) {
      double total = 0.0, sum = 0.0, square = 0.0;
      for (int64_t b = 0; b < rows_.blocks(); ++b) {
        const float* at = sums_ + 3 * b * width_ + c;
        total += weights[(size_t)b], sum += weights[(size_t)b] * at[0] + at[width_];
      }
      double center = sum / total;
      for (int64_t b = 0; b < rows_.blocks(); ++b) {
        const float* at = sums_ + 3 * b * width_ + c;
        double d = center - at[0];
        square += at[2 * width_] - 2.0 * d * at[width_] + weights[(size_t)b] * d * d;
      }
      mean[c] = (float)center, var[c] = (float)std::max(0.0, square / total);
    }
  }

 private:
  const Grouping& rows_;
  int64_t channels_, width_;
  Scratch<float> sums_;
};


}  // namespace
}  // namespace geo3d

using namespace geo3d;

// As geo3d_grouped_max with the statistics of all rows, padded ones included. There are no biases, because the means
// cancel them: norms holds gamma and beta. top (groups, channels of the last layer): the maxima before the last norm,
// whose gamma must not be negative; slot: which row of its group each one is. moments: means of all layers, their
// variances, mean of the last layer's input.
GEO3D_API int32_t geo3d_grouped_train(int32_t threads, int64_t groups, int64_t k, int64_t points,
                                      const float* of_points, const float* of_groups, const float* pos,
                                      const float* centers, const float* offset_weight, const int64_t* neighbors, const int64_t* count,
                                      int64_t layers, const int64_t* channels, const int64_t* weights,
                                      const int64_t* norms, float eps, float slope, float* top, int32_t* slot, float* moments) {
  return guarded([&]() -> int32_t {
    Source source{groups, k, points, channels[0], of_points, of_groups, pos, centers, offset_weight, neighbors, count};
    Status status;
    Grouping rows(source, status);
    if (status != OK) return status;
    Layers net(threads, rows, layers, channels, weights, slope);
    int64_t last = net.last, all = 0;
    for (int64_t l = 0; l < layers; ++l) all += channels[l];
    std::vector<double> weight((size_t)rows.blocks());
    Maxima maxima(rows, channels[last], top, slot);
    Moments of_input(rows, channels[last - 1]);
    Parts parts(rows.blocks());
    float* mean = moments;
    for (int64_t l = 0; l < layers; mean += channels[l++]) {
      Moments of_layer(rows, channels[l]);
      parallel(threads, parts.count, [&](int64_t part) {
        Scratch<float> x(rows.step * net.widest), mu(rows.step);
        for (int64_t block = parts.first(part); block < parts.first(part + 1); ++block) {
          int64_t height = rows.rows_of(block), width = wide(channels[l]);
          weight[(size_t)block] = rows.weigh(block, mu);
          const float* y = net.raw(std::max<int64_t>(l - 1, 0), block, x);
          if (l == 0) {
            of_layer.add(y, height, mu, block);
            continue;
          }
          net.norm(l - 1).activate(y, height, x);
          if (l == last) of_input.add(x, height, mu, block);
          Maxima::Walk walk(maxima, block);
          multiply_block(x, height, channels[l - 1], net.packed(l), channels[l], nullptr,
                         [&](const Tile& tile, int64_t r, int64_t n, int64_t c) {
                           of_layer.add(tile.value, r, n, mu + r, block, c);
                           if (l == last) walk.next(r, n, c, [&](int64_t i, int h) { return tile.value[i][h]; });
                           else store_tile(tile, n, net.kept(l, block) + r * width + c, width);
                         });
        }
      });
      of_layer.join(weight, mean, mean + all);
      net.set_norm(l, address(norms, 2 * l), address(norms, 2 * l + 1), mean, mean + all, eps);
    }
    maxima.join();
    std::vector<float> unused((size_t)channels[last - 1]);
    of_input.join(weight, moments + 2 * all, unused.data());
    return OK;
  });
}
