"""Every public operator on small float32 inputs, with its gradients, for tests of kernel builds and default dtypes."""

from collections.abc import Callable

import torch
from torch import Tensor

from geo3d import metrics, seeds
from geo3d.cloud import Layout
from geo3d.geometry import normalize, rotation, triangles
from geo3d.ops.dense import grouped, matrix, pooling, sliding
from geo3d.ops.dense import prepacked as packed
from geo3d.ops.edge import gather
from geo3d.ops.edge.conv import edge_conv, edge_conv_fixed
from geo3d.ops.edge.join import edge_join
from geo3d.ops.edge.moments import edge_moments
from geo3d.ops.quant import fake_quantize as rounding
from geo3d.ops.quant import int8
from geo3d.ops.search import ball, voxel
from geo3d.ops.search import farthest as sampling
from geo3d.ops.search import knn as neighbors
from geo3d.ops.search import three_nearest as interpolate

SIZES = {"uniform": (20, 20, 20), "ragged": (1, 7, 33, 19)}
K = 5


class Inputs:
    """Random float32 tensors from one seed, for clouds of the given sizes."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.generator = seeds.generator(0, "operators")
        self.sizes, self.rows = sizes, sum(sizes)
        self.ptr = offsets(sizes)
        self.center_ptr = offsets([-(-size // 4) for size in sizes])
        self.num = sizes[0] if len(set(sizes)) == 1 else None
        self.num_c = -(-sizes[0] // 4) if self.num else None
        self.pos = self.floats(self.rows, 3)
        self.centers = self.floats(int(self.center_ptr[-1]), 3)
        self.neighbors = torch.randint(0, self.rows, (self.rows, K), generator=self.generator)

    def floats(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float32)

    def leaves(self, *shapes: tuple[int, ...]) -> list[Tensor]:
        return [self.floats(*shape).requires_grad_() for shape in shapes]


def offsets(sizes) -> Tensor:
    return torch.tensor([0, *sizes], dtype=torch.int64).cumsum(0)


def with_gradients(leaves: list[Tensor], *outputs: Tensor) -> list[Tensor]:
    """The outputs, and the gradients of a weighted sum of the first output, whose weights all differ."""
    out = outputs[0]
    asked = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [*(o.detach() for o in outputs), *torch.autograd.grad(out, leaves, asked)]


def knn(i):
    wide = i.floats(i.rows, 8)
    return [
        neighbors.knn(i.pos, Layout(i.ptr, i.num), K), neighbors.knn(wide, Layout(i.ptr, i.num), K),
        neighbors.knn_query(i.pos, Layout(i.ptr, i.num), i.centers, Layout(i.center_ptr, i.num_c), 2),
        neighbors.degree(i.neighbors, i.rows),
        neighbors.select_smallest(wide, 3),
    ]  # fmt: skip


def balls(i):
    return list(ball.ball_query_counts(i.pos, Layout(i.ptr, i.num), i.centers, Layout(i.center_ptr, i.num_c), 0.7, K))


def nearest(i):
    index, weight = interpolate.three_nearest(i.pos, Layout(i.ptr, i.num), i.centers, Layout(i.center_ptr, i.num_c))
    leaves = i.leaves((len(i.centers), 4))
    return with_gradients(leaves, interpolate.interpolate(leaves[0], index, weight), index, weight)


def farthest(i):
    starts = ["first", "farthest", torch.zeros(len(i.sizes), dtype=torch.int64), seeds.generator(1, "start")]
    return [sampling.farthest_points(i.pos, Layout(i.ptr, i.num), 6, start) for start in starts]


def voxels(i):
    found = voxel.voxel_groups(i.pos, Layout(i.ptr, i.num), 0.5)
    leaves = i.leaves((i.rows, 4))
    return with_gradients(leaves, voxel.voxel_mean(leaves[0], found[0], found[2]), *found)


def maxima(i):
    leaves = i.leaves((i.rows, 6))
    return with_gradients(leaves, gather.gather_max(leaves[0], i.neighbors))


def sums(i):
    leaves = i.leaves((i.rows, 6))
    first = with_gradients(leaves, gather.gather_sum(leaves[0], i.neighbors))
    return [*first, gather.sum_to_neighbors(leaves[0].detach(), i.neighbors, i.rows)]


def moments(i):
    leaves = i.leaves((i.rows, 6), (i.rows, 6))
    mean, var, count = edge_moments(*leaves, i.neighbors)
    return with_gradients(leaves, mean + var, count)


def convolution(i):
    leaves = i.leaves((i.rows, 4), (10, 8), (10,), (10,))
    fixed = edge_conv_fixed(*(leaf.detach() for leaf in leaves), i.neighbors, 0.2)
    return [*with_gradients(leaves, *edge_conv(*leaves, i.neighbors)), fixed]


def join(i):
    ab, gamma, beta = leaves = i.leaves((i.rows, 20), (10,), (10,))
    exact = i.floats(i.rows, 10)
    both = [edge_join(ab, which, gamma.abs(), beta, i.neighbors) for which in (None, exact)]
    return [each for found in both for each in with_gradients(leaves, *found)]


def pools(i):
    leaves = i.leaves((i.rows, 6), (10, 6), (10,), (10,))
    fixed = pooling.linear_pool(*(leaf.detach() for leaf in leaves), i.ptr, 0.2)
    plain = with_gradients(leaves[:1], pooling.max_and_mean(leaves[0], Layout(i.ptr, i.num)))
    return [*with_gradients(leaves, *pooling.norm_pool(*leaves, i.ptr)), fixed, *plain]


def windows(i):
    leaves = i.leaves((i.rows, 9))
    order = torch.randperm(9, generator=i.generator)
    both = [sliding.sliding_sum(leaves[0], 4, which, 0.5) for which in (None, order)]
    return [each for found in both for each in with_gradients(leaves, found)]


def rounded(i):
    x, step, offset = leaves = i.leaves((i.rows, 6), (6,), (6,))
    by_column = with_gradients(leaves, rounding.fake_quantize(x, step.abs() + 0.1, offset, 0, 15, 1))
    whole = with_gradients([x], rounding.fake_quantize(x, step.detach().abs()[:1] + 0.1, None, -8, 7))
    codes = [
        rounding.quantize(x.detach(), step.detach().abs() + 0.1, given, qmin, qmin + 15, 1)
        for given, qmin in ((None, -8), (offset.detach(), 0))
    ]
    fits = [fit for with_offset in (False, True) for fit in rounding.least_squares(x.detach().t(), 0, 7, with_offset)]
    return [*by_column, *whole, *codes, *(fit for fit in fits if fit is not None)]


def codes(i):
    one, step = i.floats(1), i.floats(1).abs() + 0.05
    weight = torch.randint(-63, 64, (20, 7), generator=i.generator, dtype=torch.int8)
    q = int8.quantize_rows(i.floats(i.rows, 7), step, one, 255)
    whole, halves, scale = int8.pack(weight), int8.pack(weight, 2), i.floats(20).abs() / 100
    a, b = int8.edge_parts(q, halves, scale, i.floats(20), step, one, 15)
    return [
        q, int8.accumulate(q, whole), int8.linear(q, whole, scale, i.floats(20), 0.2), a, b,
        int8.edge_evaluate(a, b, i.neighbors, step, one, scale[:10], i.floats(10), 0.2),
        int8.linear_pool(q, whole, scale, i.floats(20), 0.2, i.ptr),
    ]  # fmt: skip


def packed_layers(i):
    weight = packed.pack(i.floats(20, 6))
    x, bias = i.floats(i.rows, 6), i.floats(20)
    return [packed.linear(x, weight, bias, 0.2), packed.linear_pool(x, weight, bias, i.floats(20), 0.2, i.ptr)]


def products(i):
    x, y, z = i.floats(i.rows, 6), i.floats(7, 6), i.floats(i.rows, 5)
    return [matrix.linear(x, y, i.floats(7)), matrix.multiply(x, y.t()), matrix.outer(x, z), matrix.signs(x)]


def groups(i, channels=(9, 17)):
    table, count = ball.ball_query_counts(i.pos, Layout(i.ptr, i.num), i.centers, Layout(i.center_ptr, i.num_c), 0.7, K)
    found = []
    for with_table, slope in ((True, 0.0), (False, 0.0), (True, 0.2)):
        depth = 4 + 3 * with_table
        shapes = [(i.rows, 4), (channels[0], depth), (channels[1], channels[0])]
        features, *weights = leaves = i.leaves(*shapes)
        rows = grouped.Rows(features, None, None, None, i.ptr.diff())
        if with_table:
            rows = grouped.Rows(features, i.pos, i.centers, table, count)
        norms = [i.floats(size) for size in channels for _ in range(3)]
        found += with_gradients(leaves, *grouped.grouped_max_train(rows, weights, norms, 1e-5, True, slope))
        statistics = [(i.floats(size), i.floats(size).abs()) for size in channels]
        given = [*norms[:3], *statistics[0], *norms[3:], *statistics[1]]
        found += with_gradients(leaves, grouped.grouped_max(rows, weights, given, 1e-5, True, slope))
    return found


def meshes(i):
    vertices = i.floats(12, 3)
    faces = torch.randint(0, 12, (9, 3), generator=i.generator)
    drawn = triangles.sample_triangles(vertices, faces, 20, i.generator)
    return [*drawn, triangles.triangle_areas(vertices, faces), triangles.triangle_normals(vertices, faces)]


def turns(i):
    angles = i.floats(4)
    random = rotation.random_rotations(4, i.generator)
    return [
        rotation.rotation_about_z(angles), rotation.axis_angle_to_matrix(i.floats(4, 3)), random,
        rotation.rotation_angle(random), *normalize.unit_sphere(i.pos), rotation.unit_vectors(i.pos),
    ]  # fmt: skip


def numbers(i):
    z, y = i.floats(20, 6), torch.randint(0, 3, (20,), generator=i.generator)
    return [
        metrics.accuracy(z, y), metrics.class_accuracy(z.argmax(1) % 3, y, 3), metrics.embedding_std(z),
        metrics.effective_rank(z), metrics.alignment(z, z.flip(0)), metrics.uniformity(z),
        metrics.knn_accuracy(z, y, z, y, 3, 0.1),
    ]  # fmt: skip


CASES: dict[str, Callable[[Inputs], list[Tensor]]] = {
    function.__name__: function
    for function in (
        knn, balls, nearest, farthest, voxels, maxima, sums, moments, convolution, join, pools, windows, rounded, codes,
        packed_layers, products, groups, meshes, turns, numbers,
    )
}  # fmt: skip
