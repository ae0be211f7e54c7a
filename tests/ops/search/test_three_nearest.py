import pytest
import torch

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.search.three_nearest import interpolate, three_nearest

BUILDS = [*native.builds(), None]


def switched(build):
    return native.using(build) if build else native.disabled()


def plain(pos, centers, features):
    rows = []
    for p in pos:
        d2 = (centers - p).square().sum(1)
        near = d2.sort(stable=True).indices[:3]
        w = 1 / (d2[near] + 1e-8)
        rows.append((features[near] * (w / w.sum())[:, None]).sum(0))
    return torch.stack(rows)


def layouts(given, sizes=(None, None)):
    """The same tensors with the offsets as layouts."""
    pos, ptr, centers, center_ptr = given
    return pos, Layout(ptr, sizes[0]), centers, Layout(center_ptr, sizes[1])


@pytest.mark.parametrize("sizes, sizes_c", [([20, 20], [6, 6]), ([20, 5, 1, 9], [6, 3, 1, 2])])
def test_same_as_the_plain_loop(sizes, sizes_c):
    generator = seeds.generator(0, "three")
    pos = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64)
    ptr, center_ptr = torch.tensor([0, *sizes]).cumsum(0), torch.tensor([0, *sizes_c]).cumsum(0)
    centers = torch.cat([pos[a : a + n] for a, n in zip(ptr, sizes_c, strict=False)])  # some points are centres
    features = torch.randn(len(centers), 4, generator=generator, dtype=torch.float64)
    known = (sizes[0], sizes_c[0]) if len(set(sizes)) == 1 else (None, None)
    found = interpolate(features, *three_nearest(*layouts((pos, ptr, centers, center_ptr), known)))
    for b in range(len(sizes)):
        c = slice(center_ptr[b], center_ptr[b + 1])
        wanted = plain(pos[ptr[b] : ptr[b + 1]], centers[c], features[c])
        torch.testing.assert_close(found[ptr[b] : ptr[b + 1]], wanted, rtol=0, atol=1e-12)


def test_weights_sum_to_one_and_gradients_reach_the_features():
    generator = seeds.generator(1, "three")
    pos = torch.randn(10, 3, generator=generator)
    index, weight = three_nearest(pos, Layout(torch.tensor([0, 10]), 10), pos[:4], Layout(torch.tensor([0, 4]), 4))
    torch.testing.assert_close(weight.sum(1), torch.ones(10))
    assert torch.equal(index[:4, 0], torch.arange(4)) and bool((weight[:4, 0] > 0.999).all())
    features = torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: interpolate(f, index, weight.double()), features)


def two_layers(sizes, sizes_c, grid):
    generator = seeds.generator(2, "three")
    pos, centers = (torch.randn(sum(n), 3, generator=generator) for n in (sizes, sizes_c))
    if grid is not None:
        pos, centers = (pos / grid).round() * grid, (centers / grid).round() * grid
    return pos, torch.tensor([0, *sizes]).cumsum(0), centers, torch.tensor([0, *sizes_c]).cumsum(0)


@pytest.mark.parametrize("build", native.builds())
@pytest.mark.parametrize("grid", [None, 0.5], ids=["anywhere", "many ties"])
@pytest.mark.parametrize("sizes, sizes_c", [([50, 50], [13, 13]), ([30, 300, 1, 9], [8, 40, 1, 2])])
def test_compiled_form_is_the_reference(sizes, sizes_c, grid, build):
    given = two_layers(sizes, sizes_c, grid)
    with native.disabled():
        index, weight = three_nearest(*layouts(given))
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with native.using(build):
                found.append(three_nearest(*layouts(given)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0][0], index)
    torch.testing.assert_close(found[0][1], weight, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("build", BUILDS)
def test_fewer_centres_than_three(build):
    pos, ptr = torch.tensor([[1.0, 0, 0], [5.0, 0, 0]]), torch.tensor([0, 1, 2])
    centers, center_ptr = torch.tensor([[0.0, 0, 0], [2, 0, 0], [7, 0, 0]]), torch.tensor([0, 2, 3])
    with switched(build):
        index, weight = three_nearest(pos, Layout(ptr), centers, Layout(center_ptr))
    assert index.tolist() == [[0, 1, 0], [2, 2, 2]] and weight.tolist() == [[0.5, 0.5, 0], [1, 0, 0]]


@pytest.mark.parametrize("build", BUILDS)
def test_bad_values(build):
    pos, ptr, centers, center_ptr = two_layers([5, 4], [2, 1], None)
    cases = [
        ((pos / torch.tensor([1.0, 1, 0]), ptr, centers, center_ptr), "NaN or infinite"),
        ((pos, ptr, centers * torch.nan, center_ptr), "NaN or infinite"),
        ((pos, ptr[[0, 2, 1]], centers, center_ptr), "offsets"),
        ((pos, ptr, centers, center_ptr[:2]), "must be of equally many clouds; found 2 and 1"),
    ]
    for given, message in cases:
        with switched(build), pytest.raises(CloudError, match=message):
            three_nearest(*layouts(given))


@pytest.mark.parametrize("build", BUILDS)
def test_operator_keeps_the_rules_of_torch(build):
    with switched(build):
        given = two_layers([6, 6], [4, 4], None)
        torch.library.opcheck(torch.ops.geo3d.three_nearest.default, (*given, None, None))
        torch.library.opcheck(torch.ops.geo3d.three_nearest.default, (*given, 6, 4))


def test_one_graph_and_half_precision():
    given = two_layers([20, 20], [4, 4], None)
    found = torch.compile(lambda *args: three_nearest(*layouts(args, (20, 4))), backend="eager", fullgraph=True)(*given)
    assert torch.equal(found[0], three_nearest(*layouts(given))[0])
    index, weight = three_nearest(*layouts([t.bfloat16() if t.is_floating_point() else t for t in given]))
    assert weight.dtype == torch.bfloat16 and index.dtype == torch.int64
