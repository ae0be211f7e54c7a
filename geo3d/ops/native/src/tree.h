// Points in up to three dimensions, as one array for each coordinate, in an order that keeps neighbours together.
//
// The order is that of a balanced k-d tree. Only the boxes of the tree's leaves are kept. Comparing a box with all of
// them is faster than descending the tree, because many are compared at once and many queries share the result.
#pragma once
#include <algorithm>
#include <vector>

#include "parallel.h"
#include "select.h"
#include "simd.h"

namespace geo3d {

constexpr int64_t LEAF = 32;

// Wherever distances are compared they come from these operations in this order, so that rounding keeps their order.
inline Floats squared(Floats x, Floats y, Floats z) { return x * x + y * y + z * z; }

struct Points {
  const float *x, *y, *z;  // filled up to a multiple of ROW with ABSENT
  const int32_t* ids;
};

struct Item {
  float c[3];
  int32_t id;
};

struct Box {
  float low[3], high[3];

  static Box of(const Item* items, int64_t count) {
    Box box;
    for (int c = 0; c < 3; ++c) box.low[c] = INFINITE, box.high[c] = -INFINITE;
    for (int64_t i = 0; i < count; ++i)
      for (int c = 0; c < 3; ++c) {
        box.low[c] = std::min(box.low[c], items[i].c[c]);
        box.high[c] = std::max(box.high[c], items[i].c[c]);
      }
    return box;
  }
  bool is_point() const { return low[0] == high[0] && low[1] == high[1] && low[2] == high[2]; }
  int longest() const {
    float side[3] = {high[0] - low[0], high[1] - low[1], high[2] - low[2]};
    return side[0] >= side[1] && side[0] >= side[2] ? 0 : side[1] >= side[2] ? 1 : 2;
  }
};

// Points in the order of the tree; leaf i begins at point i LEAF. Of points at one place, only the first `enough` by id
// can be neighbours of a query: leaves full of others have no box.
class Tree {
 public:
  // A part of the order that is still to be sorted.
  struct Part {
    int64_t first, leaves;
  };

  Tree(int64_t count, int64_t enough)
      : count(count), leaves(ceil_div(count, LEAF)), enough_(enough), items_(count), order_(4 * round_up(count, ROW)),
        ids_(round_up(count, ROW)), bounds_(6 * round_up(leaves, LANES)), alike_(leaves) {}

  Item* items() { return items_; }

  // Splits a part into halves; false if it needs no more work.
  bool split(Part part, Part halves[2]) {
    int64_t first = part.first * LEAF, last = std::min((part.first + part.leaves) * LEAF, count);
    Box box = Box::of(items_ + first, last - first);
    if (box.is_point()) return finish_alike(part, box), false;
    if (part.leaves == 1) return finish(part.first, box, last - first, 1), false;
    int64_t left = (part.leaves + 1) / 2, middle = (part.first + left) * LEAF;
    int axis = box.longest();
    std::nth_element(items_ + first, items_ + middle, items_ + last,
                     [axis](const Item& a, const Item& b) { return a.c[axis] < b.c[axis]; });
    halves[0] = {part.first, left}, halves[1] = {part.first + left, part.leaves - left};
    return true;
  }
  void sort(Part part) {
    Part halves[2];
    if (split(part, halves)) sort(halves[0]), sort(halves[1]);
  }
  // To be called when all parts are sorted.
  void close() {
    for (int64_t i = count; i < round_up(count, ROW); ++i) {
      for (int c = 0; c < 3; ++c) axis(c)[i] = ABSENT;
      ids_[i] = 0;
    }
    for (int64_t i = leaves; i < round_up(leaves, LANES); ++i) no_box(i);
  }

  Points points(int64_t first) const { return {axis(0) + first, axis(1) + first, axis(2) + first, ids_ + first}; }
  Box box(int64_t leaf) const {
    Box box;
    for (int c = 0; c < 3; ++c) box.low[c] = low(c)[leaf], box.high[c] = high(c)[leaf];
    return box;
  }
  // How many points, from the start of the leaf on, are at one place and share their neighbours; 0 if these points
  // begin in an earlier leaf.
  int64_t alike(int64_t leaf) const { return alike_[leaf]; }

  // Squared distances from a box to LANES leaves; none is larger than the distance of any pair of their points.
  Floats distances(const Box& from, int64_t leaf) const {
    Floats gap[3];
    for (int c = 0; c < 3; ++c) {
      Floats above = load(low(c) + leaf) - splat(from.high[c]), below = splat(from.low[c]) - load(high(c) + leaf);
      gap[c] = max(Floats{}, max(above, below));  // in this order, what is ABSENT remains so
    }
    return squared(gap[0], gap[1], gap[2]);
  }

  // The smallest part of the tree that contains the leaf and at least `least` points; else the whole tree.
  Part around(int64_t leaf, int64_t least) const {
    Part part{0, leaves};
    for (;;) {
      int64_t left = (part.leaves + 1) / 2;
      Part half = leaf < part.first + left ? Part{part.first, left} : Part{part.first + left, part.leaves - left};
      if (part.leaves == 1 || std::min((half.first + half.leaves) * LEAF, count) - half.first * LEAF < least)
        return part;
      part = half;
    }
  }

  const int64_t count, leaves;

 private:
  float* axis(int c) const { return order_ + c * round_up(count, ROW); }
  float* low(int c) const { return bounds_ + c * round_up(leaves, LANES); }
  float* high(int c) const { return low(c + 3); }

  void finish(int64_t leaf, const Box& box, int64_t size, int64_t alike) {
    for (int c = 0; c < 3; ++c) {
      for (int64_t i = 0; i < size; ++i) axis(c)[leaf * LEAF + i] = items_[leaf * LEAF + i].c[c];
      low(c)[leaf] = box.low[c], high(c)[leaf] = box.high[c];
    }
    for (int64_t i = 0; i < size; ++i) ids_[leaf * LEAF + i] = items_[leaf * LEAF + i].id;
    alike_[leaf] = alike;
  }
  void finish_alike(Part part, const Box& box) {
    int64_t first = part.first * LEAF, last = std::min((part.first + part.leaves) * LEAF, count);
    std::sort(items_ + first, items_ + last, [](const Item& a, const Item& b) { return a.id < b.id; });
    for (int64_t i = 0; i < part.leaves; ++i) {
      int64_t size = std::min(LEAF, last - first - i * LEAF);
      finish(part.first + i, box, size, i == 0 ? last - first : 0);
      if (i * LEAF >= enough_) no_box(part.first + i);
    }
  }
  void no_box(int64_t leaf) {
    for (int c = 0; c < 3; ++c) low(c)[leaf] = high(c)[leaf] = ABSENT;
  }

  int64_t enough_;
  Scratch<Item> items_;
  Scratch<float> order_;
  Scratch<int32_t> ids_;
  Scratch<float> bounds_;
  Scratch<int64_t> alike_;
};

// Sorts the trees, halving large parts first so that one large tree occupies all threads.
inline void sort_trees(int threads, std::vector<Tree*>& trees) {
  constexpr int64_t LARGE = 64;  // leaves
  struct Task {
    Tree* tree;
    Tree::Part part;
  };
  std::vector<Task> large, small;
  for (Tree* tree : trees) large.push_back({tree, {0, tree->leaves}});
  while (!large.empty()) {
    std::vector<Task> next(2 * large.size());
    parallel(threads, (int64_t)large.size(), [&](int64_t i) {
      Task task = large[(size_t)i];
      Tree::Part halves[2] = {task.part, {0, 0}};
      if (task.part.leaves > LARGE && !task.tree->split(task.part, halves)) halves[0].leaves = 0;
      for (int h = 0; h < 2; ++h) next[2 * (size_t)i + (size_t)h] = {task.tree, halves[h]};
    });
    large.clear();
    for (const Task& task : next)
      if (task.part.leaves) (task.part.leaves > LARGE ? large : small).push_back(task);
  }
  parallel(threads, (int64_t)small.size(), [&](int64_t i) { small[(size_t)i].tree->sort(small[(size_t)i].part); });
  for (Tree* tree : trees) tree->close();
}

}  // namespace geo3d
