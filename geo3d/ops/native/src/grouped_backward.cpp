// Gradients of the layers on grouped rows with batch statistics.
//
// The layers' outputs are computed again, except those of the last layer, which are not needed. The gradient through
// its statistics is linear in its input row x: the weight's follows from the second moments of x, and that of x from x
// and a matrix as small as these moments. The gradient through the maxima reaches few rows only.
#include <numeric>

#include "grouped_backward.h"
#include "outer.h"

extern "C" int32_t geo3d_linear(int32_t, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
                                const float*, float*, int64_t);

namespace geo3d {
namespace {

class Backward {
 public:
  Backward(int threads, Layers& net, float eps, const float* var)
      : threads_(threads), net_(net), rows_(net.rows), eps_(eps), room_(widest(net)),
        gradients_(rows_.blocks() * rows_.step * room_) {
    for (int64_t l = 0; l <= net.last; var += net.channels[l++]) var_.push_back(var);
  }

  // From the gradient of the normalised maxima to those of the last layer's weight and of its input before the ReLU.
  void last_layer(const float* weight, const float* input_mean, const float* top, const int32_t* slot,
                  const float* d_out, float* d_weight, float* d_gamma, float* d_beta);
  // From the gradient before layer l's ReLU to those of its weight and before the ReLU of layer l - 1.
  void hidden_layer(int64_t l, const float* weight, float* d_weight, float* d_gamma, float* d_beta);
  // d_rows: the gradient of the source's rows, where there are no neighbors.
  void rows_source(float* d_rows, float* d_gamma, float* d_beta);
  void points_source(float* d_of_points, float* d_of_groups, float* d_offset_weight, float* d_gamma, float* d_beta);

 private:
  static int64_t widest(const Layers& net) { return wide(*std::max_element(net.channels, net.channels + net.last)); }
  // The gradient before the ReLU of the layer worked on last. A block's rows are dense, in room for the widest layer.
  float* gradient(int64_t block) { return gradients_.at(block * rows_.step * room_); }
  float* gradient_of_row(int64_t row, int64_t width) { return gradient(row / rows_.step) + row % rows_.step * width; }
  // Computes the outputs of the layers up to l < last for a block again and keeps them; returns that of l.
  const float* again(int64_t l, int64_t block, float* buffer, float* x);
  NormBackward norm_backward(int64_t l, float* d_gamma, float* d_beta) {
    return {net_.norm(l), var_[(size_t)l], eps_, rows_.total(), *sums_, d_gamma, d_beta};
  }

  int threads_;
  Layers& net_;
  const Grouping& rows_;
  float eps_;
  std::vector<const float*> var_;
  int64_t room_;
  Large gradients_;
  std::unique_ptr<PartSums<double>> sums_;  // of the gradients in front of the latest ReLU
};

const float* Backward::again(int64_t l, int64_t block, float* buffer, float* x) {
  int64_t height = rows_.rows_of(block);
  const float* y = net_.raw(0, block, buffer);
  for (int64_t i = 1; i <= l; ++i) {
    net_.norm(i - 1).activate(y, height, x);
    float* to = net_.kept(i, block);
    int64_t width = wide(net_.channels[i]);
    multiply_block(x, height, net_.channels[i - 1], net_.packed(i), net_.channels[i], nullptr,
                   [&](const Tile& tile, int64_t r, int64_t n, int64_t c) {
                     store_tile(tile, n, to + r * width + c, width);
                   });
    y = to;
  }
  return y;
}

void Backward::last_layer(const float* weight, const float* input_mean, const float* top, const int32_t* slot,
                          const float* d_out, float* d_weight, float* d_gamma, float* d_beta) {
  int64_t last = net_.last, in = net_.channels[last - 1], out = net_.channels[last], width = wide(in);
  Asked asked(threads_, rows_, net_.norm(last), var_[(size_t)last], eps_, weight, in, input_mean, top, d_out, d_gamma,
              d_beta);
  Parts parts(rows_.blocks(), (in + out) * width);
  PartSums<float> second(parts, in * width), won(parts, out * width);
  sums_.reset(new PartSums<double>(parts, 2 * width));
  parallel(threads_, parts.count, [&](int64_t part) {
    float *to_second = second.begin(part), *to_won = won.begin(part);
    double* to_sums = sums_->begin(part);
    Scratch<float> buffer(rows_.step * net_.widest), x(rows_.step * net_.widest), mu(rows_.step);
    Scratch<float> right(DEPTH * width), left(DEPTH * MR);
    for (int64_t block = parts.first(part); block < parts.first(part + 1); ++block) {
      int64_t height = rows_.rows_of(block);
      rows_.weigh(block, mu);
      const float* y = again(last - 1, block, buffer, x);
      net_.norm(last - 1).activate(y, height, x);
      for (int64_t r = 0; r < height; ++r)
        for (int64_t c = r * width; c < (r + 1) * width; c += LANES)
          store(x + c, load(x + c) - load(asked.input_center + (c - r * width)));
      float* d = gradient(block);
      auto times_mu = [&](const Tile& tile, int64_t r, int64_t n, int64_t c) {
        for (int64_t i = 0; i < n; ++i)
          for (int h = 0; h < 2; ++h) store(d + (r + i) * width + c + h * LANES, mu[r + i] * tile.value[i][h]);
      };
      multiply_block(x, height, in, asked.packed, in, asked.init, times_mu);
      add_maxima(asked, rows_, block, slot, out, width, x, d, to_won);
      auto weighted = [&](int64_t row, int64_t depth, int64_t i, float* to) {
        pack_rows(x + row * width + i, width, depth, std::min<int64_t>(MR, in - i), to);
        for (int64_t r = 0; r < depth; ++r)
          if (mu[row + r] != 1.0f)
            for (int64_t j = 0; j < MR; ++j) to[r * MR + j] *= mu[row + r];
      };
      add_outer(0, height, 0, in, width, x, width, to_second, right, left, weighted);
      through_relu(net_.norm(last - 1), y, height, d, to_sums);
    }
  });
  Scratch<float> moments(in * in), from_moments(out * in);
  second.sum(threads_, in, in, width, moments);
  geo3d_linear(threads_, out, in, in, weight, in, moments, in, nullptr, from_moments, in);
  won.sum(threads_, out, in, width, d_weight);
  for (int64_t c = 0; c < out; ++c)
    for (int64_t i = 0; i < in; ++i) d_weight[c * in + i] -= asked.slope[c] * from_moments[c * in + i];
}

void Backward::hidden_layer(int64_t l, const float* weight, float* d_weight, float* d_gamma, float* d_beta) {
  int64_t in = net_.channels[l - 1], out = net_.channels[l], width = wide(in);
  NormBackward norm = norm_backward(l, d_gamma, d_beta);
  Scratch<float> packed(width * out);
  pack(weight, in, out, in, packed);
  Parts parts(rows_.blocks(), out * width);
  PartSums<float> outer(parts, out * width);
  std::unique_ptr<PartSums<double>> sums(new PartSums<double>(parts, 2 * width));
  parallel(threads_, parts.count, [&](int64_t part) {
    float* to_outer = outer.begin(part);
    double* to_sums = sums->begin(part);
    Scratch<float> buffer(rows_.step * net_.widest), x(rows_.step * net_.widest), mu(rows_.step);
    Scratch<float> d(rows_.step * net_.widest), right(DEPTH * width), left(DEPTH * MR);
    for (int64_t block = parts.first(part); block < parts.first(part + 1); ++block) {
      int64_t height = rows_.rows_of(block);
      rows_.weigh(block, mu);
      norm.apply(gradient(block), net_.kept(l, block), mu, height, d);
      const float* y = net_.raw(l - 1, block, buffer);
      net_.norm(l - 1).activate(y, height, x);
      auto pack_left = [&](int64_t row, int64_t depth, int64_t i, float* to) {
        pack_rows(d + row * wide(out) + i, wide(out), depth, std::min<int64_t>(MR, out - i), to);
      };
      add_outer(0, height, 0, out, width, x, width, to_outer, right, left, pack_left);
      float* to = gradient(block);
      multiply_block(d, height, out, packed, in, nullptr, [&](const Tile& tile, int64_t r, int64_t n, int64_t c) {
        store_tile(tile, n, to + r * width + c, width);
      });
      through_relu(net_.norm(l - 1), y, height, to, to_sums);
    }
  });
  outer.sum(threads_, out, in, width, d_weight);
  sums_ = std::move(sums);
}

void Backward::rows_source(float* d_rows, float* d_gamma, float* d_beta) {
  int64_t channels = net_.channels[0], width = wide(channels);
  NormBackward norm = norm_backward(0, d_gamma, d_beta);
  parallel(threads_, rows_.blocks(), [&](int64_t block) {
    Scratch<float> buffer(rows_.step * width), mu(rows_.step), d(rows_.step * width);
    rows_.weigh(block, mu);
    norm.apply(gradient(block), net_.raw(0, block, buffer), mu, rows_.rows_of(block), d);
    for (int64_t r = 0; r < rows_.rows_of(block); ++r)
      std::memcpy(d_rows + (block * rows_.step + r) * channels, d + r * width, (size_t)channels * sizeof(float));
  });
}

struct Edge {
  const float *d, *with;  // with: the group's part of the first layer's output, or null
  float occurs, offset[3];
};

// Sums over the edges of one point: the gradients d of the first layer's output, and d times each of the three offsets.
// `own`: the point's part of that output.
void add_edges(const std::vector<Edge>& edges, const Grouping& rows, const NormBackward& norm, const float* own,
               float* sum, float* moved) {
  int64_t width = wide(rows.s.channels);
  for (int64_t c = 0; c < width; c += LANES) {
    Floats total{}, along[3] = {}, w[3];
    for (int i = 0; i < 3; ++i) w[i] = load(rows.offset_weight(i) + c);
    for (const Edge& e : edges) {
      Floats y = load(own + c);
      if (e.with) y += load(e.with + c);
      y += e.offset[0] * w[0] + e.offset[1] * w[1] + e.offset[2] * w[2];
      Floats d = norm.apply(load(e.d + c), y, e.occurs, c);
      total += d;
      for (int i = 0; i < 3; ++i) along[i] += e.offset[i] * d;
    }
    store(sum + c, total);
    for (int i = 0; i < 3; ++i) store(moved + i * width + c, along[i]);
  }
}

// Sorts rows by their points, so that each point's gradient is a sum in a fixed order.
void Backward::points_source(float* d_of_points, float* d_of_groups, float* d_offset_weight, float* d_gamma,
                             float* d_beta) {
  int64_t channels = net_.channels[0], width = wide(channels), points = rows_.s.points;
  NormBackward norm = norm_backward(0, d_gamma, d_beta);
  std::vector<int32_t> begin((size_t)points + 1), order((size_t)rows_.rows), group((size_t)rows_.rows);
  for (int32_t j : rows_.index) ++begin[(size_t)j + 1];
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<int32_t> next(begin.begin(), begin.end() - 1);
  for (int64_t g = 0; g < rows_.s.groups; ++g)
    for (int64_t r = rows_.start[(size_t)g]; r < rows_.start[(size_t)g + 1]; ++r) {
      group[(size_t)r] = (int32_t)g;
      order[(size_t)next[(size_t)rows_.index[(size_t)r]]++] = (int32_t)r;
    }
  Scratch<float> groups(rows_.s.of_groups ? rows_.s.groups * width : 0);
  if (rows_.s.of_groups)
    parallel(threads_, ceil_div(rows_.s.groups, 64), [&](int64_t task) {
      Scratch<float> y(width);
      for (int64_t g = 64 * task; g < std::min(rows_.s.groups, 64 * task + 64); ++g) {
        rows_.group(g, groups + g * width);
        float* sum = d_of_groups + g * channels;
        std::fill(sum, sum + channels, 0.0f);
        for (int64_t r = rows_.start[(size_t)g]; r < rows_.start[(size_t)g + 1]; ++r) {
          float occurs = rows_.occurs(g, r - rows_.start[(size_t)g]);
          rows_.fill_row(r, g, y);
          norm.apply(gradient_of_row(r, width), y, &occurs, 1, y);
          for (int64_t c = 0; c < channels; ++c) sum[c] += y[c];
        }
      }
    });
  Parts parts(points);
  PartSums<double> offsets(parts, 3 * width);
  parallel(threads_, parts.count, [&](int64_t part) {
    double* to_offsets = offsets.begin(part);
    std::vector<Edge> edges;
    Scratch<float> own(width), sum(width), moved(3 * width);  // moved: sums of d times x, y, z
    for (int64_t j = parts.first(part); j < parts.first(part + 1); ++j) {
      edges.clear();
      for (int64_t e = begin[(size_t)j]; e < begin[(size_t)j + 1]; ++e) {
        int64_t r = order[(size_t)e], g = group[(size_t)r];
        const float* with = rows_.s.of_groups ? groups + g * width : nullptr;
        edges.push_back({gradient_of_row(r, width), with, rows_.occurs(g, r - rows_.start[(size_t)g]), {}});
        rows_.offset(r, g, edges.back().offset);
      }
      rows_.point(j, own);
      add_edges(edges, rows_, norm, own, sum, moved);
      if (d_of_points) std::memcpy(d_of_points + j * channels, sum, (size_t)channels * sizeof(float));
      for (int64_t c = 0; c < 3 * width; ++c) to_offsets[c] += moved[c];
    }
  });
  for (int64_t c = 0; d_offset_weight && c < channels; ++c)
    for (int64_t i = 0; i < 3; ++i) d_offset_weight[3 * c + i] = (float)offsets.sum(i * width + c);
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// Gradients of of_points, of of_groups, of offset_weight, of the weights (addresses), and of gamma and beta (addresses). d_out: the
// gradient of the normalised maxima (groups, channels of the last layer); top, slot, moments: from geo3d_grouped_train.
GEO3D_API int32_t geo3d_grouped_backward(int32_t threads, int64_t groups, int64_t k, int64_t points,
                                         const float* of_points, const float* of_groups, const float* pos,
                                         const float* centers, const float* offset_weight, const int64_t* neighbors, const int64_t* count,
                                         int64_t layers, const int64_t* channels, const int64_t* weights,
                                         const int64_t* norms, float eps, float slope, const float* top,
                                         const int32_t* slot, const float* moments, const float* d_out,
                                         float* d_of_points, float* d_of_groups, float* d_offset_weight, const int64_t* d_weights, const int64_t* d_norms) {
  return guarded([&]() -> int32_t {
    Source source{groups, k, points, channels[0], of_points, of_groups, pos, centers, offset_weight, neighbors, count};
    Status status;
    Grouping rows(source, status);
    if (status != OK) return status;
    Layers net(threads, rows, layers, channels, weights, slope);
    int64_t last = net.last, all = 0;
    for (int64_t l = 0; l < layers; ++l) all += channels[l];
    const float* mean = moments;
    for (int64_t l = 0; l < layers; mean += channels[l++])
      net.set_norm(l, address(norms, 2 * l), address(norms, 2 * l + 1), mean, mean + all, eps);
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t c = 0; c < channels[last]; ++c)
        if (slot[g * channels[last] + c] < 0 || slot[g * channels[last] + c] >= count[g]) return BAD_INDEX;

    auto to = [](const int64_t* list, int64_t i) { return const_cast<float*>(address(list, i)); };
    Backward back(threads, net, eps, moments + all);
    back.last_layer(address(weights, last - 1), moments + 2 * all, top, slot, d_out, to(d_weights, last - 1),
                    to(d_norms, 2 * last), to(d_norms, 2 * last + 1));
    for (int64_t l = last - 1; l > 0; --l)
      back.hidden_layer(l, address(weights, l - 1), to(d_weights, l - 1), to(d_norms, 2 * l), to(d_norms, 2 * l + 1));
    if (neighbors) back.points_source(d_of_points, d_of_groups, d_offset_weight, to(d_norms, 0), to(d_norms, 1));
    else back.rows_source(d_of_points, to(d_norms, 0), to(d_norms, 1));
    return OK;
  });
}
