// Nearest neighbours of points in up to three dimensions: from the distances to all points of a small cloud, or to the
// points in nearby leaves of a tree in a large cloud.
#include "exact.h"

#include <memory>
#include <vector>

#include "clouds.h"
#include "knn.h"
#include "tree.h"

namespace geo3d {
namespace {

constexpr int64_t QUERIES = 64;  // of a small cloud at a time

// Coordinates of point i, zero where there are fewer than three; false if they are not finite.
bool read(const float* from, int64_t channels, float* c) {
  float sum = 0.0f;
  for (int64_t i = 0; i < 3; ++i) {
    c[i] = i < channels ? from[i] : 0.0f;
    sum += c[i] - c[i];
  }
  return sum == 0.0f;
}

// row[j] = squared distance of the query to point j.
void distances(const Points& points, int64_t n, const float* query, float* row) {
  Floats x = splat(query[0]), y = splat(query[1]), z = splat(query[2]);
  for (int64_t j = 0; j < n; j += LANES)
    store(row + j, squared(load(points.x + j) - x, load(points.y + j) - y, load(points.z + j) - z));
}

// Working memory of a thread, with the points that the queries of one leaf must be compared with.
class Bench {
 public:
  explicit Bench(int64_t most)
      : room_(round_up(most, ROW) + ROW), points_(3 * room_), ids_(room_), row_(room_), selector_(room_) {}

  const int32_t* nearest(const Points& points, int64_t n, const float* query, int64_t k) {
    distances(points, n, query, row_);
    return selector_.smallest(row_, points.ids, n, k);
  }

  // The squared distance within which a query has at least k of the n points.
  float bound(const Points& points, int64_t n, const float* query, int64_t k) {
    distances(points, n, query, row_);
    return selector_.bound(row_, n, k);
  }

  // Copies the leaves within a squared distance; returns how many points they have, ABSENT ones included.
  int64_t gather(const Tree& tree, const Box& from, float reach) {
    int64_t n = 0;
    for (int64_t leaf = 0; leaf < tree.leaves; leaf += LANES)
      for (uint32_t near = less_equal_bits(tree.distances(from, leaf), splat(reach)); near; near &= near - 1) {
        Points points = tree.points((leaf + __builtin_ctz(near)) * LEAF);
        copy(points, n);
        n += LEAF;
      }
    if (n % ROW) fill(n), n += LEAF;
    return n;
  }
  Points gathered() const { return {points_, points_ + room_, points_ + 2 * room_, ids_}; }

 private:
  void copy(const Points& from, int64_t at) {
    std::memcpy(points_ + at, from.x, LEAF * sizeof(float));
    std::memcpy(points_ + room_ + at, from.y, LEAF * sizeof(float));
    std::memcpy(points_ + 2 * room_ + at, from.z, LEAF * sizeof(float));
    std::memcpy(ids_ + at, from.ids, LEAF * sizeof(int32_t));
  }
  void fill(int64_t at) {
    for (int c = 0; c < 3; ++c) std::fill_n(points_ + c * room_ + at, LEAF, ABSENT);
    std::fill_n(ids_ + at, LEAF, 0);
  }

  int64_t room_;
  Scratch<float> points_;
  Scratch<int32_t> ids_;
  Scratch<float> row_;
  Selector selector_;
};
static_assert(ROW == 2 * LEAF, "rows are filled up leaf by leaf");

// The leaf that is nearest to a box.
int64_t nearest_leaf(const Tree& tree, const Box& box) {
  float least = INFINITE;
  int64_t best = 0;
  for (int64_t leaf = 0; leaf < tree.leaves; leaf += LANES) {
    Floats distance = tree.distances(box, leaf);
    for (int i = 0; i < LANES; ++i)
      if (distance[i] < least) least = distance[i], best = leaf + i;
  }
  return best;
}

// The neighbours of the queries in one leaf of their own tree.
void search_leaf(const Search& search, int64_t cloud, const Tree& tree, const Tree& asking, int64_t leaf,
                 Bench& bench) {
  int64_t alike = asking.alike(leaf), k = search.found(cloud);
  if (!alike) return;
  int64_t first = leaf * LEAF, queries = alike > 1 ? 1 : std::min(LEAF, asking.count - first);
  Points query = asking.points(first);
  Box box = asking.box(leaf);
  auto place = [&](int64_t i, float* c) { c[0] = query.x[i], c[1] = query.y[i], c[2] = query.z[i]; };
  float c[3], reach = 0.0f;
  Tree::Part part = tree.around(&tree == &asking ? leaf : nearest_leaf(tree, box), 2 * groups_for(k));
  Points around = tree.points(part.first * LEAF);
  int64_t n = part.leaves * LEAF;
  for (int64_t i = 0; i < queries; ++i) place(i, c), reach = std::max(reach, bench.bound(around, n, c, k));
  n = bench.gather(tree, box, reach);
  for (int64_t i = 0; i < queries; ++i) {
    place(i, c);
    const int32_t* nearest = bench.nearest(bench.gathered(), n, c, k);
    search.write(cloud, query.ids[i], nearest);
    for (int64_t j = 1; j < alike; ++j) search.write(cloud, query.ids[j], nearest);
  }
}

// All clouds: small ones as three arrays, large ones as trees.
class Clouds {
 public:
  Clouds(const Search& search, int64_t tree_from)
      : search_(search), starts_((size_t)search.clouds), most_(most()), trees_((size_t)search.clouds),
        asking_((size_t)search.clouds), room_(place(tree_from)), points_(3 * room_), ids_(round_up(most_, ROW)) {
    for (int64_t i = 0; i < round_up(most_, ROW); ++i) ids_[i] = (int32_t)i;
  }

  int32_t read_all() {
    Fault fault;
    parallel(search_.threads, search_.clouds, [&](int64_t b) {
      if (!read_points(b) || !read_queries(b)) fault.raise(NOT_FINITE);
    });
    return fault.status();
  }

  void sort() {
    std::vector<Tree*> trees;
    for (size_t b = 0; b < trees_.size(); ++b)
      for (Tree* tree : {trees_[b].get(), asking_[b].get()})
        if (tree) trees.push_back(tree);
    sort_trees(search_.threads, trees);
  }

  void search_all() {
    struct Task {
      int64_t cloud, first;
    };
    std::vector<Task> tasks;
    for (int64_t b = 0; b < search_.clouds; ++b)
      for (int64_t i = 0; i < search_.queries(b); i += tree(b) ? LEAF : QUERIES) tasks.push_back({b, i});
    auto make = [&] { return Bench(most_); };
    parallel_with(search_.threads, (int64_t)tasks.size(), make, [&](Bench& bench, int64_t i) {
      Task task = tasks[(size_t)i];
      const Tree* points = tree(task.cloud);
      if (!points) return search_part(task.cloud, task.first, bench);
      const Tree* asking = search_.same ? points : asking_[(size_t)task.cloud].get();
      search_leaf(search_, task.cloud, *points, *asking, task.first / LEAF, bench);
    });
  }

 private:
  const Tree* tree(int64_t cloud) const { return trees_[(size_t)cloud].get(); }

  int64_t most() const {
    int64_t most = 0;
    for (int64_t b = 0; b < search_.clouds; ++b) most = std::max(most, search_.points(b));
    return most;
  }

  // Creates the trees; returns the room that the small clouds need.
  int64_t place(int64_t tree_from) {
    int64_t room = 0;
    for (int64_t b = 0; b < search_.clouds; ++b) {
      if (search_.points(b) < tree_from || !groups_for(search_.k)) {
        starts_[(size_t)b] = room;
        room += round_up(search_.points(b), ROW);
      } else {
        trees_[(size_t)b] = std::make_unique<Tree>(search_.points(b), search_.k);
        if (!search_.same) asking_[(size_t)b] = std::make_unique<Tree>(search_.queries(b), search_.k);
      }
    }
    return room;
  }

  bool read_points(int64_t b) {
    bool finite = true;
    int64_t n = search_.points(b);
    float* x = points_ + starts_[(size_t)b];
    if (tree(b)) return read_into(*trees_[(size_t)b], search_.x + search_.ptr_x[b] * search_.channels);
    for (int64_t i = 0; i < n; ++i) {
      float c[3];
      finite &= read(search_.point(b, i), search_.channels, c);
      for (int64_t axis = 0; axis < 3; ++axis) x[axis * room_ + i] = c[axis];
    }
    for (int64_t axis = 0; axis < 3; ++axis) std::fill_n(x + axis * room_ + n, round_up(n, ROW) - n, ABSENT);
    return finite;
  }
  bool read_queries(int64_t b) {
    if (search_.same) return true;
    const float* from = search_.y + search_.ptr_y[b] * search_.channels;
    return tree(b) ? read_into(*asking_[(size_t)b], from) : all_finite(from, search_.queries(b) * search_.channels);
  }
  bool read_into(Tree& tree, const float* from) {
    bool finite = true;
    for (int64_t i = 0; i < tree.count; ++i) {
      finite &= read(from + i * search_.channels, search_.channels, tree.items()[i].c);
      tree.items()[i].id = (int32_t)i;
    }
    return finite;
  }

  void search_part(int64_t b, int64_t first, Bench& bench) {
    const float* x = points_ + starts_[(size_t)b];
    Points points{x, x + room_, x + 2 * room_, ids_};
    int64_t n = round_up(search_.points(b), ROW), last = std::min(first + QUERIES, search_.queries(b));
    for (int64_t i = first; i < last; ++i) {
      float c[3];
      read(search_.query(b, i), search_.channels, c);
      search_.write(b, i, bench.nearest(points, n, c, search_.found(b)));
    }
  }

  const Search& search_;
  std::vector<int64_t> starts_;  // of the small clouds in points_
  int64_t most_;
  std::vector<std::unique_ptr<Tree>> trees_, asking_;
  int64_t room_;
  Scratch<float> points_;
  Scratch<int32_t> ids_;
};

}  // namespace

int32_t search_points(const Search& search, int64_t tree_from) {
  Clouds clouds(search, tree_from);
  if (int32_t status = clouds.read_all()) return status;
  clouds.sort();
  clouds.search_all();
  return OK;
}

}  // namespace geo3d
