import pytest
import torch

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.search import ball
from geo3d.ops.search.ball import ball_query, ball_query_counts

BUILDS = [*native.builds(), None]


def switched(build):
    return native.using(build) if build else native.disabled()


def plain(pos, centers, radius, k):
    rows = []
    for c in centers.tolist():
        d2 = [sum((a - b) ** 2 for a, b in zip(p, c, strict=True)) for p in pos.tolist()]
        inside = [i for i, d in enumerate(d2) if d <= radius**2][:k] or [d2.index(min(d2))]
        rows.append(inside + inside[:1] * (k - len(inside)))
    return torch.tensor(rows)


def two_layers(sizes, sizes_c, dtype=torch.float32):
    generator = seeds.generator(0, "ball")
    pos = torch.randn(sum(sizes), 3, generator=generator, dtype=dtype)
    centers = torch.randn(sum(sizes_c), 3, generator=generator, dtype=dtype)
    return pos, torch.tensor([0, *sizes]).cumsum(0), centers, torch.tensor([0, *sizes_c]).cumsum(0)


def layouts(given, sizes=(None, None)):
    """The same tensors with the offsets as layouts."""
    pos, ptr, centers, center_ptr = given
    return pos, Layout(ptr, sizes[0]), centers, Layout(center_ptr, sizes[1])


@pytest.mark.parametrize("sizes, sizes_c", [([30, 30, 30], [8, 8, 8]), ([30, 3, 1, 17], [8, 2, 1, 5])])
@pytest.mark.parametrize("k", [1, 4, 40])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_same_table_as_the_plain_loop(sizes, sizes_c, k, chunk, monkeypatch):
    monkeypatch.setattr(ball, "CHUNK", chunk)
    pos, ptr, centers, center_ptr = two_layers(sizes, sizes_c, torch.float64)
    known = (sizes[0], sizes_c[0]) if len(set(sizes)) == 1 else (None, None)
    for radius in (0.05, 1.0, 9.0):  # nothing, some, everything inside
        found = ball_query(pos, Layout(ptr, known[0]), centers, Layout(center_ptr, known[1]), radius, k)
        for b in range(len(sizes)):
            wanted = plain(pos[ptr[b] : ptr[b + 1]], centers[center_ptr[b] : center_ptr[b + 1]], radius, k) + ptr[b]
            assert torch.equal(found[center_ptr[b] : center_ptr[b + 1]], wanted)


@pytest.mark.parametrize("build", native.builds())
@pytest.mark.parametrize(
    "sizes, sizes_c", [([70, 70], [20, 20]), ([30, 3, 1, 97], [8, 2, 1, 5]), ([2500, 9], [300, 9])]
)
@pytest.mark.parametrize("grid", [None, 0.125], ids=["anywhere", "many ties"])
def test_compiled_form_is_the_reference(sizes, sizes_c, grid, build):
    pos, ptr, centers, center_ptr = two_layers(sizes, sizes_c)
    if grid is not None:
        pos, centers = (pos / grid).round() * grid, (centers / grid).round() * grid
    for radius, k in ((0.001, 3), (0.125, 16), (0.3, 1), (1.0, 40), (20.0, 5)):
        with native.disabled():
            expected = ball_query_counts(pos, Layout(ptr), centers, Layout(center_ptr), radius, k)
        with native.using(build):
            found = ball_query_counts(pos, Layout(ptr), centers, Layout(center_ptr), radius, k)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize("build", native.builds())
def test_cells_of_the_grid_miss_no_neighbour(build):
    """Balls of 10 among 2,500 points of a cube: there the radius decides how wide a cell is."""
    pos, centers = torch.rand(2, 2500, 3, generator=seeds.generator(0, "cube"))
    ptr = torch.tensor([0, 2500])
    with native.using(build):
        _, count = ball_query_counts(pos, Layout(ptr), centers, Layout(ptr), 0.1, 64)
    inside = (torch.cdist(centers.double(), pos.double()) <= 0.1).sum(1)
    assert torch.equal(count, inside.clamp(min=1)) and 5 < inside.double().mean() < 15


@pytest.mark.parametrize("build", BUILDS)
def test_counts_tell_the_rows_from_the_fill(build):
    pos, ptr, centers, center_ptr = two_layers([60, 9], [20, 5])
    with switched(build):
        neighbors, count = ball_query_counts(pos, Layout(ptr), centers, Layout(center_ptr), 0.8, 12)
        assert torch.equal(neighbors, ball_query(pos, Layout(ptr), centers, Layout(center_ptr), 0.8, 12))
    assert count.tolist() == [len(row.unique()) for row in neighbors] and 1 < int(count.max()) <= 12
    place = torch.arange(12)
    assert torch.equal(neighbors, torch.where(place < count[:, None], neighbors, neighbors[:, :1]))


@pytest.mark.parametrize("build", native.builds())
def test_same_table_on_any_number_of_threads(build):
    given, threads, found = two_layers([300, 20, 2500], [100, 7, 300]), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with native.using(build):
                found.append(ball_query(*layouts(given), 0.2, 9))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_border_belongs_to_the_ball():
    pos = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.5, 0, 1e-3]])
    ptr = torch.tensor([0, 3])
    assert ball_query(pos, Layout(ptr), pos[:1], Layout(torch.tensor([0, 1])), 0.5, 3).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("radius, k", [(0.0, 1), (1.0, 0)])
def test_bad_options(radius, k):
    with pytest.raises(ConfigError, match="found radius"):
        ball_query(*layouts(two_layers([1], [1])), radius, k)


@pytest.mark.parametrize("build", BUILDS)
def test_bad_values(build):
    pos, ptr, centers, center_ptr = two_layers([5, 4], [2, 1])
    short, spoiled = ptr - torch.tensor([0, 0, 1]), pos / torch.tensor([1.0, 1, 0])
    cases = [
        ((spoiled, ptr, centers, center_ptr), "NaN or infinite"),
        ((pos, ptr, spoiled[:3], center_ptr), "NaN or infinite"),
        ((pos, short, centers, center_ptr), "offsets"),
        ((pos, ptr, centers, center_ptr[[0, 0, 2]]), "offsets"),
        ((pos, ptr, centers, center_ptr[::2]), "must be of equally many clouds; found 2 and 1"),
        ((pos[:, :2], ptr, centers, center_ptr), "found shapes"),
    ]
    for given, message in cases:
        with switched(build), pytest.raises(CloudError, match=message):
            ball_query(*layouts(given), 1.0, 3)


@pytest.mark.parametrize("build", BUILDS)
def test_operator_keeps_the_rules_of_torch(build):
    with switched(build):
        for sizes in ((None, None), (6, 2)):
            given = two_layers([6, 6], [2, 2])
            torch.library.opcheck(torch.ops.geo3d.ball_query.default, (*given, 0.5, 3, *sizes))


def test_one_graph():
    given = two_layers([20, 20], [4, 4])
    query = torch.compile(lambda *args: ball_query(*layouts(args, (20, 4)), 0.5, 3), backend="eager", fullgraph=True)
    assert torch.equal(query(*given), ball_query(*layouts(given), 0.5, 3))
