// One step of a recurrent refinement of places, such as the joints of a hand (geo3d.heads.JointRefiner), in evaluation.
#include <algorithm>
#include <vector>

#include "api.h"
#include "clouds.h"
#include "exponential.h"
#include "gemm.h"
#include "knn.h"

namespace geo3d {
namespace {

// Arrays as in geo3d_refine below.
struct Network {
  int64_t joints, channels, k;
  const float *of_place, *others, *update, *update_bias, *keep, *keep_bias, *move, *shift, *gate;
};

// local (C) = relu(max over the neighbours of seen - of_place q), with the place q.
void look(const Network& net, const float* seen, const int64_t* near, const float* place, float* local) {
  for (int64_t c = 0; c < net.channels; c += LANES) {
    Floats best = load(seen + near[0] * net.channels + c);
    for (int64_t j = 1; j < net.k; ++j) best = max(load(seen + near[j] * net.channels + c), best);
    Floats own{};
    for (int d = 0; d < 3; ++d) own += load(net.of_place + d * net.channels + c) * place[d];
    store(local + c, max(best - own, Floats{}));
  }
}

// mixed (C) = sum over joints of weight[j] state[j].
void mix(const Network& net, const float* weight, const float* state, float* mixed) {
  for (int64_t c = 0; c < net.channels; c += LANES) {
    Floats sum{};
    for (int64_t j = 0; j < net.joints; ++j) sum += weight[j] * load(state + j * net.channels + c);
    store(mixed + c, sum);
  }
}

// next (C) of a gated recurrent unit, from the parts (3 C each: reset, update, new) of its input and of its state.
void gated(int64_t channels, const float* in, const float* old, const float* state, float* next) {
  for (int64_t c = 0; c < channels; c += LANES) {
    Floats reset = sigmoid(load(in + c) + load(old + c));
    Floats stay = sigmoid(load(in + channels + c) + load(old + channels + c));
    Floats fresh = tanh(load(in + 2 * channels + c) + reset * load(old + 2 * channels + c));
    store(next + c, fresh + stay * (load(state + c) - fresh));
  }
}

// Adds sum_c next[c] move[c] + shift to the estimate (4): three coordinates and a logarithm that stays in [-8, 2].
void moved(const Network& net, int64_t joint, const float* next, const float* before, float* after) {
  const float *move = net.move + joint * net.channels * 4, *shift = net.shift + joint * 4;
  float sum[4] = {};
  for (int64_t c = 0; c < net.channels; ++c)
    for (int d = 0; d < 4; ++d) sum[d] += next[c] * move[4 * c + d];
  for (int d = 0; d < 4; ++d) after[d] = before[d] + (sum[d] + shift[d]);
  after[3] = std::min(std::max(after[3], -8.0f), 2.0f);
}

// The logit of going on, from the least and the most of each channel over the joints.
float going(const Network& net, const float* next) {
  Floats sum{};
  for (int64_t c = 0; c < net.channels; c += LANES) {
    Floats least = load(next + c), most = least;
    for (int64_t j = 1; j < net.joints; ++j) {
      Floats x = load(next + j * net.channels + c);
      least = min(x, least), most = max(x, most);
    }
    sum += least * load(net.gate + c) + most * load(net.gate + net.channels + c);
  }
  float logit = net.gate[2 * net.channels];
  for (int i = 0; i < LANES; ++i) logit += sum[i];
  return logit;
}

// False where a value is not finite: the maxima and exponentials below would turn it into a number.
bool refine(const Network& net, const float* seen, const int64_t* near, const float* before, const float* state,
            float* after, float* next, float* logit) {
  int64_t joints = net.joints, channels = net.channels;
  Scratch<float> entering(joints * 2 * channels), in(joints * 3 * channels), old(joints * 3 * channels);
  for (int64_t j = 0; j < joints; ++j) {
    float* row = entering + j * 2 * channels;
    look(net, seen, near + j * net.k, before + 4 * j, row);
    mix(net, net.others + j * joints, state, row + channels);
  }
  Rows of_input(2 * channels), of_state(channels);
  multiply_packed(entering, 2 * channels, joints, 2 * channels, net.update, 3 * channels, net.update_bias, in,
                  3 * channels, of_input);
  multiply_packed(state, channels, joints, channels, net.keep, 3 * channels, net.keep_bias, old, 3 * channels, of_state);
  if (!all_finite(in, joints * 3 * channels) || !all_finite(old, joints * 3 * channels)) return false;
  for (int64_t j = 0; j < joints; ++j) {
    float* to = next + j * channels;
    gated(channels, in + 3 * j * channels, old + 3 * j * channels, state + j * channels, to);
    moved(net, j, to, before + 4 * j, after + 4 * j);
  }
  *logit = going(net, next);
  return true;
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// One step for J joints in each cloud, with C channels, a multiple of 16. A joint takes the k points (points, 3) nearest
// to its place and the maximum over their rows of `seen` (points, C), minus of_place (3, C) times its place, and no less
// than 0; and the sum of the states of all joints weighted by others (J, J). Both enter a gated recurrent unit with the
// packed weights `update` (3 C, 2 C) and `keep` (3 C, C), and biases rounded up to 32 values. The new state times move
// (J, C, 4), plus shift (J, 4), is added to `before` (clouds, J, 4): place and logarithm of the uncertainty, the latter
// cut to [-8, 2]. gate (2 C + 1): weights of the least and of the most of each channel over the joints, and a bias.
GEO3D_API int32_t geo3d_refine(int32_t threads, int64_t clouds, int64_t joints, int64_t channels, int64_t points,
                               int64_t k, const float* pos, const int64_t* ptr, const float* seen,
                               const float* of_place, const float* others, const float* update,
                               const float* update_bias, const float* keep, const float* keep_bias, const float* move,
                               const float* shift, const float* gate, const float* before, const float* state,
                               float* after, float* next, float* logit) {
  return guarded([&]() -> int32_t {
    if (!valid_offsets(ptr, clouds, points)) return BAD_OFFSETS;
    if (!all_finite(seen, points * channels)) return NOT_FINITE;
    int64_t rows = clouds * joints;
    std::vector<int64_t> near((size_t)(rows * k)), ends((size_t)clouds + 1);
    std::vector<float> places((size_t)rows * 3);
    for (int64_t b = 0; b <= clouds; ++b) ends[b] = b * joints;
    for (int64_t i = 0; i < rows; ++i) std::copy(before + 4 * i, before + 4 * i + 3, places.data() + 3 * i);
    Search search{threads, clouds, 3, k, false, pos, places.data(), ptr, ends.data(), near.data()};
    if (int32_t status = search_points(search, INT64_MAX)) return status;
    Network net{joints, channels, k, of_place, others, update, update_bias, keep, keep_bias, move, shift, gate};
    Fault fault;
    parallel(threads, clouds, [&](int64_t b) {
      int64_t first = b * joints;
      bool finite = refine(net, seen, near.data() + first * k, before + 4 * first, state + first * channels,
                           after + 4 * first, next + first * channels, logit + b);
      if (!finite) fault.raise(NOT_FINITE);
    });
    return fault.status();
  });
}
