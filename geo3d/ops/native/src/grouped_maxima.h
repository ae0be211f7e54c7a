// The maximum of each group of rows, found block by block.
#pragma once
#include "grouped.h"

namespace geo3d {

// The rows of one group in one block; Maxima::join combines groups that extend over several blocks.
struct Segment {
  int64_t group, begin, end;  // in the block
  bool whole;
};

inline std::vector<Segment> segments(const Grouping& rows, int64_t block) {
  std::vector<Segment> found;
  int64_t first = block * rows.step, last = first + rows.rows_of(block);
  for (int64_t g = rows.group_of(first), r = first; r < last; r = rows.start[(size_t)++g]) {
    int64_t end = rows.start[(size_t)g + 1];
    found.push_back({g, r - first, std::min(end, last) - first, rows.start[(size_t)g] == r && end <= last});
  }
  return found;
}

// Maxima (groups, channels) and, if asked for, the first row of its group that has each.
class Maxima {
 public:
  Maxima(const Grouping& rows, int64_t channels, float* top, int32_t* slot)
      : rows_(rows), channels_(channels), width_(wide(channels)), top_(top), slot_(slot),
        parts_(2 * rows.blocks() * width_), part_slots_(slot ? 2 * rows.blocks() * width_ : 0) {}

  // Goes along the rows of a block for one panel of columns.
  class Walk {
   public:
    Walk(Maxima& to, int64_t block) : to_(to), segments_(segments(to.rows_, block)), block_(block) {}
    // Rows r ... r + height of columns column ... column + NR, tile by tile and from the first row for each panel.
    template <class F>
    void next(int64_t r, int64_t height, int64_t column, F&& value) {
      if (r == 0) at_ = segments_.data(), column_ = column;
      for (int64_t i = 0; i < height; ++i) one(r + i, value(i, 0), value(i, 1));
    }
    const std::vector<Segment>& parts() const { return segments_; }

   private:
    void one(int64_t r, Floats low, Floats high) {
      if (r == at_->begin) {
        best_[0] = low, best_[1] = high;
        where_[0] = where_[1] = splat((int32_t)r);
      } else {
        Ints more = low > best_[0], also = high > best_[1];
        where_[0] = more ? splat((int32_t)r) : where_[0], where_[1] = also ? splat((int32_t)r) : where_[1];
        best_[0] = max(low, best_[0]), best_[1] = max(high, best_[1]);
      }
      if (r + 1 == at_->end) to_.put(*at_++, block_, column_, best_, where_);
    }

    Maxima& to_;
    std::vector<Segment> segments_;
    const Segment* at_ = nullptr;
    int64_t block_, column_ = 0;
    Floats best_[2];
    Ints where_[2];
  };

  // To be called after all blocks.
  void join() {
    for (int64_t block = 0; block < rows_.blocks(); ++block)
      for (const Segment& part : segments(rows_, block)) {
        if (part.whole) continue;
        bool fresh = rows_.start[(size_t)part.group] == block * rows_.step + part.begin;
        const float* from = parts_ + place(part, block);
        float* to = top_ + part.group * channels_;
        for (int64_t c = 0; c < channels_; ++c)
          if (fresh || from[c] > to[c]) {
            to[c] = from[c];
            if (slot_) slot_[part.group * channels_ + c] = part_slots_[place(part, block) + c];
          }
      }
  }

 private:
  int64_t place(const Segment& part, int64_t block) const { return (2 * block + (part.begin > 0)) * width_; }
  void put(const Segment& part, int64_t block, int64_t column, const Floats* best, const Ints* where) {
    int64_t present = part.whole ? std::min<int64_t>(NR, channels_ - column) : NR;
    float* to = part.whole ? top_ + part.group * channels_ + column : parts_ + place(part, block) + column;
    std::memcpy(to, best, (size_t)present * sizeof(float));
    if (!slot_) return;
    Ints before = splat((int32_t)(block * rows_.step - rows_.start[(size_t)part.group]));
    Ints slots[2] = {where[0] + before, where[1] + before};
    int32_t* at = part.whole ? slot_ + part.group * channels_ + column : part_slots_ + place(part, block) + column;
    std::memcpy(at, slots, (size_t)present * sizeof(int32_t));
  }

  const Grouping& rows_;
  int64_t channels_, width_;
  float* top_;
  int32_t* slot_;
  Scratch<float> parts_;
  Scratch<int32_t> part_slots_;
};

}  // namespace geo3d
