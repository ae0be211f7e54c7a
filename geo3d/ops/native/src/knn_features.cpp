// Nearest neighbours among features: |x_j|^2 - 2 y_i x_j ranks the points j for a query i. Only a few rows of this
// matrix product exist at a time. Clouds are centred, because rounding errors grow with the distance from the origin.
#include <cfloat>
#include <cmath>
#include <vector>

#include "gemm.h"
#include "knn.h"
#include "select.h"

namespace geo3d {
namespace {

constexpr int64_t WAVE = 1 << 21;            // floats of packed clouds that exist at a time
constexpr int64_t SUMMED = 256;              // rows added up at a time
constexpr int64_t HEIGHT = 2 * MR;           // queries at a time: their distances stay in the cache
constexpr float LARGEST = FLT_MAX / 16.0f;   // squared norm up to which no sum overflows

struct Block {
  int64_t cloud, first;
};

float squared_norm(const float* x, int64_t channels) {
  Floats sum{};
  int64_t c = 0;
  for (; c + LANES <= channels; c += LANES) sum += load(x + c) * load(x + c);
  float total = 0.0f;
  for (int i = 0; i < LANES; ++i) total += sum[i];
  for (; c < channels; ++c) total += x[c] * x[c];
  return total;
}

void subtract(const float* x, const float* center, int64_t channels, float* to) {
  for (int64_t c = 0; c < channels; ++c) to[c] = x[c] - center[c];
}

// Some clouds as the product needs them.
class Wave {
 public:
  Wave(const Search& search, int64_t first, int64_t last, Fault& fault)
      : search_(search), first_(first), offsets_(offsets(search, first, last)),
        center_((last - first) * search.channels), packed_(offsets_.back() * search.channels), norm_(offsets_.back()) {
    find_centers(last);
    pack_clouds(last, fault);
  }
  const float* center(int64_t cloud) const { return center_ + (cloud - first_) * search_.channels; }
  const float* packed(int64_t cloud) const { return packed_ + offsets_[cloud - first_] * search_.channels; }
  const float* norm(int64_t cloud) const { return norm_ + offsets_[cloud - first_]; }

 private:
  static std::vector<int64_t> offsets(const Search& search, int64_t first, int64_t last) {
    std::vector<int64_t> sum{0};
    for (int64_t b = first; b < last; ++b) sum.push_back(sum.back() + panels(search.points(b)) * NR);
    return sum;
  }

  void find_centers(int64_t last) {
    int64_t channels = search_.channels;
    std::vector<Block> blocks;
    for (int64_t b = first_; b < last; ++b)
      for (int64_t i = 0; i < search_.points(b); i += SUMMED) blocks.push_back({b, i});
    Scratch<float> sums((int64_t)blocks.size() * channels);
    parallel(search_.threads, (int64_t)blocks.size(), [&](int64_t task) {
      Block block = blocks[(size_t)task];
      float* sum = sums + task * channels;
      std::memset(sum, 0, (size_t)channels * sizeof(float));
      for (int64_t i = block.first; i < std::min(block.first + SUMMED, search_.points(block.cloud)); ++i) {
        const float* from = search_.point(block.cloud, i);
        for (int64_t c = 0; c < channels; ++c) sum[c] += from[c];
      }
    });
    std::vector<double> total((size_t)channels);
    for (int64_t task = 0, b = first_; b < last; ++b) {
      std::fill(total.begin(), total.end(), 0.0);
      for (; task < (int64_t)blocks.size() && blocks[(size_t)task].cloud == b; ++task)
        for (int64_t c = 0; c < channels; ++c) total[(size_t)c] += sums[task * channels + c];
      float* to = center_ + (b - first_) * channels;
      for (int64_t c = 0; c < channels; ++c) to[c] = (float)(total[(size_t)c] / (double)search_.points(b));
    }
  }

  void pack_clouds(int64_t last, Fault& fault) {
    std::vector<Block> blocks;
    for (int64_t b = first_; b < last; ++b)
      for (int64_t i = 0; i < search_.points(b); i += NR) blocks.push_back({b, i});
    int64_t channels = search_.channels;
    auto make = [&] { return Scratch<float>(NR * channels); };
    parallel_with(search_.threads, (int64_t)blocks.size(), make, [&](float* centred, int64_t task) {
      Block block = blocks[(size_t)task];
      int64_t count = std::min<int64_t>(NR, search_.points(block.cloud) - block.first);
      int64_t at = offsets_[(size_t)(block.cloud - first_)] + block.first;
      for (int64_t j = 0; j < NR; ++j) {
        if (j >= count) {
          norm_[at + j] = ABSENT;
          continue;
        }
        subtract(search_.point(block.cloud, block.first + j), center(block.cloud), channels, centred + j * channels);
        float norm = norm_[at + j] = squared_norm(centred + j * channels, channels);
        if (!(norm <= LARGEST)) fault.raise(NOT_FINITE);
      }
      pack_transposed(centred, channels, channels, count, packed_ + at * channels, -2.0f);
    });
  }

  const Search& search_;
  int64_t first_;
  std::vector<int64_t> offsets_;
  Scratch<float> center_, packed_, norm_;
};

// Working memory of a thread.
struct Bench {
  Bench(const Search& search, int64_t most)
      : stride(round_up(most, ROW) + LANES), rows(HEIGHT * search.channels), values(HEIGHT * stride), ids(stride),
        selector(stride) {
    for (int64_t j = 0; j < stride; ++j) ids[j] = (int32_t)j;
  }
  int64_t stride;  // not a power of two, as such rows would compete for places in the cache
  Scratch<float> rows, values;
  Scratch<int32_t> ids;
  Selector selector;
};

void search_block(const Search& search, const Wave& wave, Block block, Bench& bench, Fault& fault) {
  int64_t channels = search.channels, cloud = block.cloud, n = search.points(cloud), width = round_up(n, ROW);
  int64_t count = std::min(HEIGHT, search.queries(cloud) - block.first), height = round_up(count, MR);
  for (int64_t i = 0; i < height; ++i) {
    const float* from = search.query(cloud, block.first + std::min(i, count - 1));
    subtract(from, wave.center(cloud), channels, bench.rows + i * channels);
    if (!search.same && !(squared_norm(bench.rows + i * channels, channels) <= LARGEST)) fault.raise(NOT_FINITE);
  }
  Tile tile;
  for (int64_t p = 0; p < panels(n); ++p) {
    for (int64_t i = 0; i < height; i += MR) {
      tile.multiply(bench.rows + i * channels, channels, wave.packed(cloud) + p * NR * channels, channels,
                    wave.norm(cloud) + p * NR);
      for (int r = 0; r < MR; ++r) std::memcpy(bench.values + (i + r) * bench.stride + p * NR, tile.row(r), NR * 4);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    float* row = bench.values + i * bench.stride;
    for (int64_t j = panels(n) * NR; j < width; ++j) row[j] = ABSENT;
    if (search.same) row[block.first + i] = -INFINITE;  // a point is nearest to itself whatever the rounding
    search.write(cloud, block.first + i, bench.selector.smallest(row, bench.ids, width, search.found(cloud)));
  }
}

}  // namespace

int32_t search_features(const Search& search) {
  Fault fault;
  for (int64_t first = 0, last; first < search.clouds; first = last) {
    int64_t floats = 0, most = 0;
    std::vector<Block> blocks;
    for (last = first; last < search.clouds; ++last) {
      floats += panels(search.points(last)) * NR * search.channels;
      if (last > first && floats > WAVE) break;
      most = std::max(most, search.points(last));
      for (int64_t i = 0; i < search.queries(last); i += HEIGHT) blocks.push_back({last, i});
    }
    Wave wave(search, first, last, fault);
    if (fault.status() != OK) return fault.status();
    auto make = [&] { return Bench(search, most); };
    parallel_with(search.threads, (int64_t)blocks.size(), make, [&](Bench& bench, int64_t task) {
      search_block(search, wave, blocks[(size_t)task], bench, fault);
    });
    if (fault.status() != OK) return fault.status();
  }
  return OK;
}

}  // namespace geo3d
