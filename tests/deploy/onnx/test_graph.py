import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.deploy.onnx.graph import Graph
from geo3d.deploy.onnx.layers import gather_max, maximum, mean, nearest
from geo3d.deploy.onnx.pools import folded_in, folds, pooled
from geo3d.deploy.onnx.quantized import Entering, Matrix, array, codes, entering, matrix_of, product, values
from geo3d.errors import ConfigError
from geo3d.nn.linear import linear
from geo3d.nn.quantizer import Quantizer
from geo3d.nn.structured import LowRank, SlidingSum
from geo3d.ops.edge.gather import gather_max as gather_max_of_tables
from geo3d.ops.search.knn import knn
from geo3d.testing import tiny_batch

onnx = pytest.importorskip("onnx")


def run(graph: Graph, **inputs: np.ndarray) -> list[np.ndarray]:
    """The graph's outputs, computed by ONNX's reference implementation of the operators."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(graph.model({})).run(None, inputs)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeds.generator(seed, "onnx graph"))


def of_rows(channels: int, **options: bool) -> tuple[Graph, str]:
    graph = Graph("test", 21, **options)
    return graph, graph.input("x", np.float32, ["clouds", "points", channels])


def test_constants_are_stored_once_and_names_say_where_they_are() -> None:
    graph = Graph("test", 18)
    x = graph.input("x", np.float32, ["rows"])
    with graph.scope("a"):
        y = graph.op("Mul", graph.op("Add", x, np.ones(1, np.float32)), np.ones(1, np.float32))
        with graph.scope("b"):
            y = graph.op("Add", y, np.zeros(1, np.float32), name="sum")
            y = graph.op("Add", y, np.zeros(1, np.int32).astype(np.float32), name="sum")
    graph.output("y", y, np.float32, ["rows"])
    model = graph.model({"class": "none"})
    assert [node.name for node in model.graph.node] == ["a/Add", "a/Mul", "a/b/sum", "a/b/sum_1", "output/y"]
    assert len(model.graph.initializer) == 2
    assert {entry.key: entry.value for entry in model.metadata_props} == {"class": "none"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"
    np.testing.assert_array_equal(run(graph, x=np.arange(3, dtype=np.float32))[0], [1, 2, 3])


def test_a_graph_that_is_none_is_noticed() -> None:
    graph = Graph("test", 21)
    graph.output("y", graph.op("Add", graph.input("x", np.float32, [3]), "nothing"), np.float32, [3])
    with pytest.raises(onnx.checker.ValidationError, match="nothing"):
        graph.model({})


@pytest.mark.parametrize(
    ("opset", "int4", "message"), [(17, False, "from 18 to 23"), (18, True, "int4 needs opset 21")]
)
def test_operator_sets(opset: int, int4: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Graph("test", opset, int4=int4)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("geo3d.deploy.onnx.graph.import_module", absent)
    with pytest.raises(ConfigError, match=r"onnx is not installed; pip install geo3d\[export\]"):
        Graph("test", 21)


@pytest.mark.parametrize(("clouds", "points", "k"), [(2, 20, 6), (1, 5, 8)])
def test_nearest_is_knn(clouds: int, points: int, k: int) -> None:
    batch = tiny_batch(clouds, points)
    for channels in (3, 16):
        x = batch.pos + 5 if channels == 3 else normal(clouds * points, channels)
        graph, name = of_rows(channels)
        graph.output("found", nearest(graph, name, k), np.int64, ["clouds", "points", k])
        (neighbors,) = run(graph, x=x.view(clouds, points, -1).numpy())
        expected = knn(x, Layout(batch.ptr, points), k).view(clouds, points, k) - batch.ptr[:-1, None, None]
        np.testing.assert_array_equal(neighbors, expected)


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_gather_max(at_once: int) -> None:
    batch, x = tiny_batch(2, 12), normal(24, 5)
    neighbors = knn(batch.pos, Layout(batch.ptr, 12), 7)
    graph, name = of_rows(5)
    local = graph.input("neighbors", np.int64, ["clouds", "points", 7])
    graph.output("top", gather_max(graph, name, local, 7, at_once), np.float32, ["clouds", "points", 5])
    inside = neighbors.view(2, 12, 7) - batch.ptr[:-1, None, None]
    (top,) = run(graph, x=x.view(2, 12, 5).numpy(), neighbors=inside.numpy())
    np.testing.assert_array_equal(top.reshape(24, 5), gather_max_of_tables(x, neighbors))


def test_maximum_and_mean() -> None:
    graph, name = of_rows(4)
    graph.output("top", maximum(graph, name, 1), np.float32, ["clouds", 4])
    graph.output("middle", mean(graph, name), np.float32, ["clouds", 4])
    x = normal(3, 9, 4)
    top, middle = run(graph, x=x.numpy())
    np.testing.assert_array_equal(top, x.amax(1))
    np.testing.assert_allclose(middle, x.mean(1), rtol=1e-5, atol=1e-6)


def made(quantizer: Quantizer, x: Tensor, shift: float | None = None) -> Quantizer:
    """A quantiser with its step set from x, and an offset that is not a multiple of the step."""
    quantizer.train()(x)
    if shift is not None and quantizer.shift is not None:
        quantizer.shift.data += shift * quantizer.step.detach()
    return quantizer.eval()


@pytest.mark.parametrize("configuration", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("groups", [1, 6])
def test_what_enters_a_product_is_what_the_quantizer_says(configuration: int, bits: int, groups: int) -> None:
    x = normal(40, 6) + (1 if configuration == 4 else 0)
    quantizer = made(Quantizer.configuration(configuration, bits, groups), x, 0.37)
    graph, name = of_rows(6)
    entered = entering(graph, name, quantizer)
    assert (entered.offset is not None) == (configuration in (3, 4)) and entered.coded == (groups == 1)
    graph.output("y", entered.value, np.float32, ["clouds", "points", 6])
    (y,) = run(graph, x=2 * x.view(2, 20, 6).numpy())
    found = torch.from_numpy(y.reshape(40, 6) + (0 if entered.offset is None else entered.offset.astype(np.float32)))
    torch.testing.assert_close(found, quantizer(2 * x).detach(), rtol=1e-5, atol=1e-5)
    kinds = [node.op_type for node in graph.nodes]
    assert ("Clip" in kinds) == (bits < 8)
    zeros = [node.input[2] for node in graph.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.model({}).graph.initializer}
    assert all(stored[name] == 0 for name in zeros)
    assert {stored[name].dtype.name for name in zeros} == {"int8" if configuration in (2, 3) else "uint8"}


def test_codes_are_the_quantizers() -> None:
    x = normal(40, 6)
    quantizer = made(Quantizer.for_activations(3), x)
    graph, name = of_rows(6)
    shifted = graph.op("Sub", name, array(quantizer.offset).astype(np.float32))
    counted = codes(graph, shifted, quantizer.qmin, quantizer.qmax, float(quantizer.step.detach()))
    graph.output("found", counted, np.uint8, ["clouds", "points", 6])
    graph.output("values", values(graph, counted, quantizer.qmin, 0.5), np.float32, ["clouds", "points", 6])
    found, center_and_neighbor_weights = run(graph, x=x.view(2, 20, 6).numpy())
    np.testing.assert_array_equal(found.reshape(40, 6), quantizer.codes(x))
    np.testing.assert_array_equal(center_and_neighbor_weights, found * np.float32(0.5))


@pytest.mark.parametrize("as_codes", [False, True])
@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_offset_is_folded_exactly(as_codes: bool, int4: bool, bits: int) -> None:
    x, weight, factor = normal(40, 6), normal(5, 6, seed=1), normal(5, seed=2).double().numpy()
    for_weights, for_activations = (
        made(Quantizer.for_weights(bits, 5), weight),
        made(Quantizer.for_activations(bits), x, 0.4),
    )
    graph, name = of_rows(6, as_codes=as_codes, int4=int4)
    matrix = matrix_of(weight, for_weights).times(factor)
    assert matrix.rows.dtype == np.int8 and np.abs(matrix.rows).max() <= 63 and (matrix.scale > 0).all()
    y, missing = product(graph, entering(graph, name, for_activations), matrix)
    graph.output("y", graph.op("Add", y, missing.astype(np.float32)), np.float32, ["clouds", "points", 5])
    (y,) = run(graph, x=x.view(2, 20, 6).numpy())
    expected = (for_activations(x) @ for_weights(weight).t()).detach() * torch.from_numpy(factor).float()
    torch.testing.assert_close(torch.from_numpy(y.reshape(40, 5)), expected, rtol=1e-4, atol=1e-4)
    stored = {each.data_type for each in graph.model({}).graph.initializer}
    types = onnx.TensorProto
    assert (types.INT8 in stored, types.INT4 in stored) == (
        as_codes and not (int4 and bits == 4),
        as_codes and int4 and bits == 4,
    )


def test_codes_meet_codes_only() -> None:
    """A product with unrounded inputs stores the weight as floats: with codes runtimes would round the inputs."""
    weight = normal(5, 6)
    graph, name = of_rows(6, as_codes=True)
    product(graph, Entering(name), matrix_of(weight, made(Quantizer.for_weights(8, 5), weight)))
    assert [node.op_type for node in graph.nodes] == ["MatMul"]


def test_a_scale_of_zero_is_no_scale_of_zero() -> None:
    turned = Matrix(np.array([[3, -2], [1, 1]], np.int8), np.array([0.5, 0.5])).times(np.array([-1.0, 0.0]))
    np.testing.assert_array_equal(turned.rows[0], [-3, 2])
    assert turned.scale[1] > 0
    np.testing.assert_allclose(turned.values()[1], 0, atol=1e-29)


@pytest.mark.parametrize("kind", ["sums", "shuffled", "learned"])
def test_pools(kind: str) -> None:
    pool: nn.Module = LowRank(12, 5) if kind == "learned" else SlidingSum(12, 5)
    if isinstance(pool, LowRank):
        pool.weight.data = normal(5, 12)
    elif kind == "shuffled":
        pool.order = torch.randperm(12, generator=seeds.generator(0, "order"))
    x, graph = normal(40, 12), Graph("test", 21)
    name = graph.input("x", np.float32, ["clouds", "points", 12])
    graph.output("y", pooled(graph, name, pool), np.float32, ["clouds", "points", 5])
    (y,) = run(graph, x=x.view(2, 20, 12).numpy())
    torch.testing.assert_close(torch.from_numpy(y.reshape(40, 5)), pool(x).detach(), rtol=1e-5, atol=1e-5)
    whole = torch.from_numpy(folded_in(pool, Matrix(normal(3, 5).double().numpy())).rows).float()
    torch.testing.assert_close(x @ whole.t(), (pool(x) @ normal(3, 5).t()).detach(), rtol=1e-4, atol=1e-4)


def test_a_pool_that_saves_nothing_is_folded_in() -> None:
    layer = linear(12, 8)
    layer.pool = SlidingSum(12, 4)
    assert not folds(layer, 8)  # 12 * 4 + 4 * 8 products, not 12 * 8
    assert folds(layer, 4)
    layer.input_quantizer = Quantizer.for_activations(8)
    assert not folds(layer, 4)
    layer.pool = None
    assert not folds(layer, 4)
