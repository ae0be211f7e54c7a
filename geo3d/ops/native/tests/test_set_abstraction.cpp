// Networks on rows in groups against plain loops in double precision: values, statistics, gradients, faults.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"

extern "C" {
int32_t geo3d_grouped_max(int32_t, int64_t, int64_t, int64_t, const float*, const float*, const float*, const float*,
                          const float*, const int64_t*, const int64_t*, int64_t, const int64_t*, const int64_t*,
                          const int64_t*, float, int64_t, float, float*);
int32_t geo3d_grouped_train(int32_t, int64_t, int64_t, int64_t, const float*, const float*, const float*, const float*,
                            const float*, const int64_t*, const int64_t*, int64_t, const int64_t*, const int64_t*,
                            const int64_t*, float, float, float*, int32_t*, float*);
int32_t geo3d_grouped_backward(int32_t, int64_t, int64_t, int64_t, const float*, const float*, const float*,
                               const float*, const float*, const int64_t*, const int64_t*, int64_t, const int64_t*,
                               const int64_t*, const int64_t*, float, float, const float*, const int32_t*,
                               const float*, const float*, float*, float*, float*, const int64_t*, const int64_t*);
}

namespace {

constexpr float EPS = 1e-5f;
using Doubles = std::vector<double>;

int64_t place(const std::vector<float>& v) { return (int64_t)(intptr_t)v.data(); }

struct Case {
  int64_t groups, k, points;
  std::vector<int64_t> channels, neighbors, count;
  std::vector<float> of_points, of_groups, pos, centers, offset_weight;
  std::vector<std::vector<float>> weights, norms;  // bias, gamma, beta, mean, var of each layer
  bool edges, offsets;
  float slope;

  // `own`: the rows have a part of their group, and no offsets.
  Case(int64_t groups, int64_t k, int64_t points, std::vector<int64_t> sizes, bool edges, bool own = false,
       float slope = 0.0f)
      : groups(groups), k(k), points(points), channels(sizes), edges(edges), offsets(edges && !own), slope(slope) {
    int64_t rows = 0;
    for (int64_t g = 0; g < groups; ++g) {
      count.push_back(edges || g + 1 < groups ? 1 + (g * 7) % std::min(k, points) : points - rows);
      rows += count.back();
      for (int64_t i = 0; i < k; ++i) neighbors.push_back((g * 3 + (i < count.back() ? i : 0)) % points);
    }
    of_points = numbers(points * channels[0], 1);
    if (own) of_groups = numbers(groups * channels[0], 5);
    pos = numbers(3 * points, 2), centers = numbers(3 * groups, 3), offset_weight = numbers(3 * channels[0], 4);
    for (size_t l = 0; l < channels.size(); ++l) {
      if (l) weights.push_back(numbers(channels[l] * channels[l - 1], 10 + l));
      for (int i = 0; i < 5; ++i) norms.push_back(numbers(channels[l], 20 + 5 * l + (uint64_t)i));
      for (float& v : norms.back()) v = v * v + 0.1f;
      if (l + 1 == channels.size())
        for (float& v : norms[5 * l + 1]) v = std::fabs(v);  // the last gamma; negative ones are the caller's business
    }
  }

  std::vector<int64_t> addresses(const std::vector<int>& which) const {
    std::vector<int64_t> found;
    for (size_t l = 0; l < channels.size(); ++l)
      for (int i : which) found.push_back(place(norms[5 * l + (size_t)i]));
    return found;
  }
  std::vector<int64_t> weight_addresses() const {
    std::vector<int64_t> found;
    for (auto& w : weights) found.push_back(place(w));
    return found;
  }
  int64_t total() const {
    int64_t sum = 0;
    for (int64_t c : channels) sum += c;
    return sum;
  }
  const float* given(bool there, const std::vector<float>& v) const { return there ? v.data() : nullptr; }
  double bent(double z) const { return z > 0.0 ? z : slope * z; }
  int32_t max(int32_t threads, float* out) const {
    auto w = weight_addresses(), n = addresses({0, 1, 2, 3, 4});
    return geo3d_grouped_max(threads, groups, k, points, of_points.data(), given(!of_groups.empty(), of_groups),
                             given(offsets, pos), given(offsets, centers), given(offsets, offset_weight),
                             edges ? neighbors.data() : nullptr, count.data(), (int64_t)channels.size(),
                             channels.data(), w.data(), n.data(), EPS, 1, slope, out);
  }
  int32_t train(int32_t threads, float* top, int32_t* slot, float* moments) const {
    auto w = weight_addresses(), n = addresses({1, 2});
    return geo3d_grouped_train(threads, groups, k, points, of_points.data(), given(!of_groups.empty(), of_groups),
                               given(offsets, pos), given(offsets, centers), given(offsets, offset_weight),
                               edges ? neighbors.data() : nullptr, count.data(), (int64_t)channels.size(),
                               channels.data(), w.data(), n.data(), EPS, slope, top, slot, moments);
  }

  // Every row, repeated ones too; statistics of the rows if `own`. Sum over ask * maxima, behind the last norm.
  double plain(bool own, const std::vector<float>& ask, Doubles* maxima = nullptr) const {
    std::vector<Doubles> rows;
    std::vector<int64_t> group;
    for (int64_t g = 0, r = 0; g < groups; ++g)
      for (int64_t i = 0; i < (edges ? k : count[(size_t)g]); ++i, ++r) {
        int64_t j = edges ? neighbors[(size_t)(g * k + i)] : r;
        Doubles row;
        for (int64_t c = 0; c < channels[0]; ++c) {
          row.push_back(of_points[(size_t)(j * channels[0] + c)]);
          if (!of_groups.empty()) row.back() += of_groups[(size_t)(g * channels[0] + c)];
          for (int d = 0; offsets && d < 3; ++d)
            row.back() += (double)offset_weight[(size_t)(3 * c + d)] *
                          ((double)pos[(size_t)(3 * j + d)] - centers[(size_t)(3 * g + d)]);
        }
        rows.push_back(row), group.push_back(g);
      }
    for (size_t l = 0; l < channels.size(); ++l) {
      if (l)
        for (Doubles& row : rows) {
          Doubles next((size_t)channels[l], 0.0);
          for (size_t c = 0; c < next.size(); ++c)
            for (size_t i = 0; i < row.size(); ++i)
              next[c] += (double)weights[l - 1][c * row.size() + i] * bent(row[i]);
          row = next;
        }
      for (size_t c = 0; c < (size_t)channels[l]; ++c) {
        double mean = (double)norms[5 * l + 3][c] - norms[5 * l][c], var = norms[5 * l + 4][c];
        if (own) {
          mean = var = 0.0;
          for (auto& row : rows) mean += row[c] / (double)rows.size();
          for (auto& row : rows) var += (row[c] - mean) * (row[c] - mean) / (double)rows.size();
        }
        for (auto& row : rows)
          row[c] = (row[c] - mean) / std::sqrt(var + EPS) * norms[5 * l + 1][c] + norms[5 * l + 2][c];
      }
    }
    size_t out = (size_t)channels.back();
    Doubles best((size_t)groups * out, -1e300);
    for (size_t r = 0; r < rows.size(); ++r)
      for (size_t c = 0; c < out; ++c) {
        double& to = best[(size_t)group[r] * out + c];
        to = std::max(to, rows[r][c]);
      }
    double sum = 0.0;
    for (size_t i = 0; i < best.size() && !ask.empty(); ++i) sum += ask[i] * best[i];
    if (maxima) *maxima = best;
    return sum;
  }
};

void check_values(const Case& c) {
  size_t size = (size_t)(c.groups * c.channels.back());
  Doubles wanted;
  c.plain(false, {}, &wanted);
  std::vector<float> found(size), again(size);
  CHECK(c.max(1, found.data()) == 0);
  for (size_t i = 0; i < size; ++i)
    CHECK(std::fabs(found[i] - c.bent(wanted[i])) < 1e-4 * (1 + std::fabs(wanted[i])));
  CHECK(c.max(3, again.data()) == 0 && std::memcmp(found.data(), again.data(), size * sizeof(float)) == 0);
}

// Gradients against differences of the plain form, one direction for each input.
void check_training(Case c) {
  size_t size = (size_t)(c.groups * c.channels.back()), last = c.channels.size() - 1;
  std::vector<float> top(size), moments((size_t)(2 * c.total() + c.channels[last - 1]));
  std::vector<int32_t> slot(size);
  CHECK(c.train(2, top.data(), slot.data(), moments.data()) == 0);
  Doubles wanted;
  std::vector<float> ask = numbers((int64_t)size, 99);
  c.plain(true, ask, &wanted);
  const float *mean = moments.data() + c.total() - c.channels[last], *var = mean + c.total();
  for (size_t i = 0; i < size; ++i) {
    size_t ch = i % (size_t)c.channels[last];
    double out = (top[i] - mean[ch]) / std::sqrt(var[ch] + EPS) * c.norms[5 * last + 1][ch] + c.norms[5 * last + 2][ch];
    CHECK(std::fabs(out - wanted[i]) < 1e-4 * (1 + std::fabs(wanted[i])));
    CHECK(slot[i] >= 0 && slot[i] < c.count[i / (size_t)c.channels[last]]);
  }

  std::vector<std::vector<float>*> inputs{&c.of_points, &c.offset_weight, &c.of_groups};
  for (auto& w : c.weights) inputs.push_back(&w);
  for (size_t l = 0; l <= last; ++l) inputs.push_back(&c.norms[5 * l + 1]), inputs.push_back(&c.norms[5 * l + 2]);
  std::vector<std::vector<float>> grads, repeated;
  for (auto* input : inputs) grads.emplace_back(input->size());
  repeated = grads;
  for (auto* to : {&grads, &repeated}) {
    std::vector<int64_t> of_weights, of_norms, w = c.weight_addresses(), n = c.addresses({1, 2});
    for (size_t l = 0; l < last; ++l) of_weights.push_back(place((*to)[3 + l]));
    for (size_t l = 0; l < 2 * (last + 1); ++l) of_norms.push_back(place((*to)[3 + last + l]));
    CHECK(geo3d_grouped_backward(to == &grads ? 1 : 3, c.groups, c.k, c.points, c.of_points.data(),
                                 c.given(!c.of_groups.empty(), c.of_groups), c.given(c.offsets, c.pos),
                                 c.given(c.offsets, c.centers), c.given(c.offsets, c.offset_weight),
                                 c.edges ? c.neighbors.data() : nullptr, c.count.data(), (int64_t)last + 1,
                                 c.channels.data(), w.data(), n.data(), EPS, c.slope, top.data(), slot.data(),
                                 moments.data(), ask.data(), (*to)[0].data(),
                                 c.of_groups.empty() ? nullptr : (*to)[2].data(),
                                 c.offsets ? (*to)[1].data() : nullptr, of_weights.data(), of_norms.data()) == 0);
  }
  CHECK(grads == repeated);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if ((i == 1 && !c.offsets) || inputs[i]->empty()) continue;
    // Along the gradient itself, with a step so small that no ReLU and no maximum turns.
    double square = 0.0, step = 1e-4, largest = 1e-3;
    for (float g : grads[i]) square += (double)g * g, largest = std::max(largest, (double)std::fabs(g));
    std::vector<float> kept = *inputs[i];
    double values[2], moved[2] = {0.0, 0.0};
    for (int side = 0; side < 2; ++side) {
      for (size_t e = 0; e < kept.size(); ++e) {
        (*inputs[i])[e] = kept[e] + (float)((side ? 1 : -1) * step / largest * grads[i][e]);
        moved[side] += ((double)(*inputs[i])[e] - kept[e]) * grads[i][e];
      }
      values[side] = c.plain(true, ask);
    }
    *inputs[i] = kept;
    double expected = moved[1] - moved[0];
    CHECK(std::fabs(values[1] - values[0] - expected) < 0.03 * std::fabs(expected) + 1e-6);
  }
}

void check_faults() {
  Case c(5, 4, 20, {6, 8}, true);
  std::vector<float> out((size_t)c.groups * 8);
  Case bad = c;
  bad.neighbors[1] = 20, bad.count[0] = 4;
  CHECK(bad.max(2, out.data()) == 2);
  bad.neighbors[1] = -1;
  CHECK(bad.max(2, out.data()) == 2);
  bad = c, bad.count[2] = 0;
  CHECK(bad.max(2, out.data()) == 2);
  bad = c, bad.count[2] = 5;
  CHECK(bad.max(2, out.data()) == 2);
  bad = c, bad.pos[7] = NAN;
  CHECK(bad.max(2, out.data()) == 3);
  bad = c, bad.of_points.back() = INFINITY;
  CHECK(bad.max(2, out.data()) == 3);
  bad = Case(5, 4, 20, {6, 8}, true, true), bad.of_groups[3] = NAN;
  CHECK(bad.max(2, out.data()) == 3);
  Case rows(4, 3, 9, {6, 8}, false);
  bad = rows, bad.count[3] += 1;
  CHECK(bad.max(2, out.data()) == 4);
  bad = rows, bad.count[3] -= 1, bad.count[0] = 0;
  CHECK(bad.max(2, out.data()) == 4);
}

}  // namespace

void test_set_abstraction() {
  for (const Case& c : {Case(37, 6, 50, {7, 9, 33}, true), Case(1, 1, 1, {3, 4}, true),
                        Case(70, 9, 40, {40, 5, 70, 3}, true), Case(6, 80, 300, {17, 20}, false),
                        Case(2, 3, 500, {5, 64, 6}, false), Case(40, 9, 40, {7, 9, 33}, true, true, 0.2f),
                        Case(50, 6, 50, {24, 17}, true, false, 0.2f), Case(9, 5, 30, {3, 4}, true, true)})
    check_values(c);
  for (const Case& c : {Case(37, 6, 50, {7, 9, 33}, true), Case(70, 9, 40, {20, 5, 36, 3}, true),
                        Case(6, 80, 300, {17, 20}, false), Case(2, 3, 250, {5, 34, 6}, false),
                        Case(40, 9, 40, {7, 9, 33}, true, true, 0.2f), Case(37, 6, 50, {7, 33}, true, false, 0.3f)})
    check_training(c);
  check_faults();
}
