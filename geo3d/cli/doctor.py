"""``geo3d doctor``: versions and kernels of this installation, and a test of each operator."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from geo3d.cloud import Layout
from geo3d.errors import ConfigError

USAGE = """usage: geo3d doctor

Prints the versions, the processor, which compiled kernels are in use and why, and whether CUDA, Triton and Open3D are
available. Then compares each operator in float32 with its float64 reference on a few points. The exit status is 1 if an
operator fails."""


def doctor(words: list[str]) -> int:
    """The exit status, after everything has been printed: 1 if an operator fails, else 0.

    Raises:
        ConfigError: If there are any arguments.
    """
    if words:
        raise ConfigError(f"doctor {words[0]}: geo3d doctor takes no options")
    rows = [*machine_rows(), *accelerator_rows()]
    failed = 0
    for name, error in self_check():
        rows.append((name, "ok" if error is None else f"FAILED: {error}"))
        failed += error is not None
    width = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        print(f"{name:<{width}}{text}")
    print(f"\n{failed} operators failed; please report this with the lines above" if failed else "\nall is well")
    return 1 if failed else 0


def machine_rows() -> Iterator[tuple[str, str]]:
    """Pairs (name, text) for versions, processor and native kernels."""
    from geo3d.machine import machine
    from geo3d.ops import native

    for name, value in machine(native.name() or "none").items():
        yield name, str(value)
    for line in native.status():
        name, _, text = line.partition(": ")
        yield name, text


def accelerator_rows() -> Iterator[tuple[str, str]]:
    """Pairs (name, text) for CUDA, Triton and Open3D: available or not."""
    import torch

    if torch.cuda.is_available():
        yield "CUDA", f"{torch.version.cuda}, {torch.cuda.get_device_name()}"
    else:
        yield "CUDA", "no device, or a torch without CUDA"
    yield "Triton", "installed" if find_spec("triton") else "not installed; only a GPU would use it"
    yield "Open3D", "installed" if find_spec("open3d") else "not installed; geo3d does not need it"


def self_check() -> Iterator[tuple[str, str | None]]:
    """Name of each operator, and its failure in one line (None if it passes)."""
    for name, operation in operations().items():
        try:
            yield name, difference(operation)
        except Exception as error:  # every failure becomes one line of the report
            yield name, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def difference(operation: Callable[..., Any]) -> str | None:
    """How float32 results, ragged and uniform, differ from the float64 reference; None if they agree."""
    import torch

    from geo3d import seeds

    for sizes in ([24, 24], [30, 7, 11]):
        ptr = torch.tensor([0, *sizes]).cumsum(0)
        generator = seeds.generator(0, "doctor")
        pos, x = (torch.randn(sum(sizes), c, generator=generator, dtype=torch.float64).float() for c in (3, 16))
        common = sizes[0] if len(set(sizes)) == 1 else None
        actual, expected = (
            operation(pos.to(dtype), x.to(dtype), ptr, common) for dtype in (torch.float32, torch.float64)
        )
        for a, b in zip(actual, expected, strict=True):
            if a.shape != b.shape or not torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4):
                return f"differs from the reference on {'uniform' if common else 'ragged'} clouds"
    return None


def operations() -> dict[str, Callable[..., tuple[Any, ...]]]:
    """Name -> function from (pos (M, 3), x (M, 16), ptr, num_points) to the tensors that are compared.

    The tensors of differentiable operators include the gradient with respect to x.
    """
    import torch

    from geo3d.nn.edge_conv import EdgeConv
    from geo3d.nn.set_abstraction import SetAbstraction
    from geo3d.ops.edge import gather
    from geo3d.ops.edge import moments as edge
    from geo3d.ops.search.ball import ball_query
    from geo3d.ops.search.farthest import farthest_points
    from geo3d.ops.search.knn import knn
    from geo3d.ops.search.three_nearest import interpolate, three_nearest
    from geo3d.seeds import seeded

    def picked(pos: Any, ptr: Any, common: Any) -> Any:
        return farthest_points(pos, Layout(ptr, common), 5), torch.arange(len(ptr)) * 5

    def with_gradients(function: Callable[..., Any], x: Any, *rest: Any) -> tuple[Any, ...]:
        x = x.clone().requires_grad_()
        outs = function(x, *rest)
        outs = outs if isinstance(outs, tuple) else (outs,)
        loss = sum((out * torch.arange(1, out.numel() + 1).view(out.shape)).sum() / out.numel() for out in outs)
        return (*(out.detach() for out in outs), *torch.autograd.grad(loss, x))

    def balls(pos: Any, ptr: Any, common: Any) -> Any:
        index, center_ptr = picked(pos, ptr, common)
        return ball_query(pos, Layout(ptr, common), pos[index], Layout(center_ptr, 5), 1.0, 8)

    def nearest(pos: Any, x: Any, ptr: Any, common: Any) -> tuple[Any, ...]:
        index, center_ptr = picked(pos, ptr, common)
        table, weight = three_nearest(pos, Layout(ptr, common), pos[index], Layout(center_ptr, 5))
        return table, *with_gradients(interpolate, x[index], table, weight)

    def edge_conv(pos: Any, x: Any, ptr: Any, common: Any) -> tuple[Any, ...]:
        with seeded(0, "doctor"):
            layer = EdgeConv(16, 8).to(x.dtype)
        return with_gradients(layer, x, knn(pos, Layout(ptr, common), 6))

    def set_abstraction(pos: Any, x: Any, ptr: Any, common: Any) -> tuple[Any, ...]:
        with seeded(0, "doctor"):
            layer = SetAbstraction(16, [1.0], [8], [[16, 16]]).to(x.dtype)
        index, center_ptr = picked(pos, ptr, common)
        return with_gradients(lambda f: layer(pos, f, Layout(ptr, common), pos[index], Layout(center_ptr, 5)), x)

    return {
        "knn, points": lambda pos, x, ptr, n: (knn(pos, Layout(ptr, n), 6),),
        "knn, features": lambda pos, x, ptr, n: (knn(x, Layout(ptr, n), 6),),
        "farthest_points": lambda pos, x, ptr, n: (picked(pos, ptr, n)[0],),
        "ball_query": lambda pos, x, ptr, n: (balls(pos, ptr, n),),
        "three_nearest": nearest,
        "gather_max": lambda pos, x, ptr, n: with_gradients(gather.gather_max, x, knn(pos, Layout(ptr, n), 6)),
        "gather_sum": lambda pos, x, ptr, n: with_gradients(gather.gather_sum, x, knn(pos, Layout(ptr, n), 6)),
        "edge_moments": lambda pos, x, ptr, n: with_gradients(
            lambda b: edge.edge_moments(b.flip(1), b, knn(pos, Layout(ptr, n), 6))[:2], x
        ),
        "EdgeConv": edge_conv,
        "SetAbstraction": set_abstraction,
    }
