// Nearest neighbours: checks, and the choice between the searches.
#include "knn.h"

#include "clouds.h"

using namespace geo3d;

// out (num_y, k): the rows of x (num_x, channels) that are nearest to each row of y (num_y, channels), nearest first,
// equally near ones in the order of their numbers; ptr_x and ptr_y (clouds + 1) are the offsets of the clouds. With
// `same`, y is x, and beyond three channels every row is its own first neighbour. In up to three channels, clouds of at
// least `tree_from` points are searched with a tree; the result does not depend on `tree_from`.
GEO3D_API int32_t geo3d_knn(int32_t threads, int64_t clouds, int64_t channels, int64_t k, int64_t same, int64_t num_x,
                            const float* x, const int64_t* ptr_x, int64_t num_y, const float* y, const int64_t* ptr_y,
                            int64_t tree_from, int64_t* out) {
  return guarded([&]() -> int32_t {
    if (!valid_offsets(ptr_x, clouds, num_x) || !valid_offsets(ptr_y, clouds, num_y)) return BAD_OFFSETS;
    Search search{threads, clouds, channels, k, same != 0, x, y, ptr_x, ptr_y, out};
    return channels <= 3 ? search_points(search, tree_from) : search_features(search);
  });
}
