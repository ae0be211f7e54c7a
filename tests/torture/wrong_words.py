"""Commands with one mistake; each function gives those of one kind, some of them drawn at random."""

from collections.abc import Iterator
from random import Random

from kills import COMPRESS, CPU, DATA, FINETUNE, JOBS, PRETRAIN, TINY
from wrong_values import GIVEN, misspelt, options, wrong_values

WITNESS = "witness"
PROBE, EMBED, SWEEP = JOBS["probe"], JOBS["embed"], JOBS["sweep"]
PLAIN = {
    "pretrain": PRETRAIN,
    "finetune": [*FINETUNE, "checkpoint=pre/encoder"],
    "probe": PROBE,
    "embed": EMBED,
    "compress": [*COMPRESS, "checkpoint=tuned/encoder", "recipe=w4a8"],
    "sweep": SWEEP,
    "demo": ["demo", "size=256", "epochs=1", "num_points=24", "progress=false"],
}
"""A right command for each job, without ``out``."""
Words = list[str]


def taken(command: str) -> dict[str, object]:
    """Dotted name -> annotation, for every option of a command."""
    import geo3d.jobs
    from geo3d import compress, data, encoders, objectives
    from geo3d.tasks.classify import Classify
    from geo3d.tasks.datamodule import DataModule
    from geo3d.tasks.trainer import make_trainer

    job = options(getattr(geo3d.jobs, command))
    found = {name: annotation for name, annotation in job.items() if name not in GIVEN}
    parts = {"data": [data.Folder, DataModule], "trainer": [make_trainer]} if command != "embed" else {}
    if command == "pretrain":
        parts |= {"encoder": [encoders.DGCNN], "objective": [objectives.InfoNCE]}
    if command == "finetune":
        parts |= {"task": [Classify]}
    for part, functions in parts.items():
        if part in job:
            taken = {name: each for function in functions for name, each in options(function).items()}
            hidden = {"seed"} | (set(job) if part == "task" else set())
            found |= {f"{part}.{name}": each for name, each in taken.items() if name not in GIVEN | hidden}
    if command in ("compress", "finetune"):
        for step in ("quantize", "prune", "structure", "adapt"):
            taken = options(getattr(compress, step))
            found |= {f"recipe.{step}.{name}": each for name, each in taken.items() if name not in GIVEN}
    inner = (
        "data",
        "trainer",
        "recipe",
        "task",
        "objective",
        "invariance",
        "checkpoints",
        "runs",
        "checkpoint",
        "path",
    )
    return {name: annotation for name, annotation in found.items() if name not in inner}


def others() -> Iterator[tuple[Words, str, object]]:
    """Command, option and annotation, for options of encoders and objectives that ``PLAIN`` does not use."""
    from geo3d import encoders, objectives

    names = {"pointnet": encoders.PointNet, "pointnet2": encoders.PointNet2}
    for choice, function in names.items():
        words = ["pretrain", f"encoder={choice}", *DATA, *CPU, "trainer.max_epochs=1", "projector=[8,8]"]
        for name, annotation in options(function).items():
            if name not in GIVEN:
                yield words, f"encoder.{name}", annotation
    names = {"barlow_twins": objectives.BarlowTwins, "byol": objectives.BYOL, "moco": objectives.MoCo}
    for choice, function in (names | {"vicreg": objectives.VICReg}).items():
        for name, annotation in options(function).items():
            if name not in GIVEN:
                yield [*PRETRAIN, f"objective={choice}"], f"objective.{name}", annotation


def values(draw: Random) -> Iterator[Words]:
    """Commands with a value that the option does not take."""
    for command, words in PLAIN.items():
        for name, annotation in taken(command).items():
            for value in wrong_values(name.rpartition(".")[2], annotation):
                yield [*words, f"{name}={value}", "out=out"]
    for words, name, annotation in others():
        for value in wrong_values(name.rpartition(".")[2], annotation):
            yield [*words, f"{name}={value}", "out=out"]


def names(draw: Random) -> Iterator[Words]:
    """Commands with a misspelt option, an option of a plain value, or a name that belongs to Hydra or Python."""
    for command, words in PLAIN.items():
        known = taken(command)
        for name in known:
            part, dot, last = name.rpartition(".")
            yield [*words, f"{part}{dot}{misspelt(last, [n.rpartition('.')[2] for n in known], draw)}=1", "out=out"]
            if draw.random() < 0.3:
                yield [*words, f"{name}.{draw.choice(['a', '_x', '__class__', 'real'])}=1", "out=out"]
        for extra in (
            "hydra.run.dir=elsewhere", "hydra.verbose=true", "hydra.job.chdir=true", "hydra={}", "_convert_=all",
            "_recursive_=false", "_args_=[1]", "__class__=1", "defaults=[]", "data._args_=[1]", "data._partial_=true",
            "data._x=1", "trainer._x=1", "trainer.default_root_dir=x", "trainer.callbacks=[]", "a.b.c.d=1", "=1", "a=",
            "seed", "-seed=1", "--seed=1", "+seed=1", "~seed", "seed==1", "seed =1", "data.=1", ".seed=1",
            "s\u00e9ed=1",
        ):  # fmt: skip
            yield [*words, extra, "out=out"]
    for command in (*PLAIN, "bench", "data", "export", "doctor"):
        for _ in range(3):
            yield [misspelt(command, PLAIN, draw), "out=out"]
    for extra in ("encoder._k=3", "encoder._partial_=true", "objective._target=x", "invariance._parts_=[]"):
        yield [*PRETRAIN, extra, "out=out"]
    for group in ("encoder", "objective", "invariance", "data", "trainer", "recipe"):
        for value in ("zzz", "", "3", "[a]", "../data/folder", "dgcnn.yaml", "Dgcnn", "dgcnn,pointnet", "glob(*)"):
            yield [*PRETRAIN, f"{group}={value}", "out=out"]


def targets(draw: Random) -> Iterator[Words]:
    """Commands with a ``_target_`` where no object, or no object of that class, belongs."""
    handler = "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler"
    touch = f"entrypoint: touch, args: [{WITNESS}], env: {{}}, stdout: null, stderr: null, local_rank_id: 0"
    injected = [
        f"{{_target_: {handler}, {touch}}}",
        f"{{_target_: os.system, command: touch {WITNESS}}}",
        f"{{_target_: subprocess.Popen, args: [touch, {WITNESS}]}}",
        f"{{_target_: builtins.open, file: {WITNESS}, mode: w}}",
        f"{{_target_: torch.serialization.open_file, name: {WITNESS}}}",
        "{_target_: torch.nn.Linear, in_features: 1, out_features: 1}",
        "{_target_: geo3d.encoders.DGCNN, k: 3}",
        "{_target_: geo3d.io.write.write_cloud}",
        "{_target_: geo3d.nn.linear.Linear, in_features: 1, out_features: 1}",
        "{_target_: 3}", "{_target_: null}", "{_target_: ''}", "{_target_: [a]}", "{_target_: {_target_: x}}",
        "{_partial_: true, _target_: geo3d.encoders.DGCNN}", f"[{{_target_: {handler}, {touch}}}]",
    ]  # fmt: skip
    for command, words in PLAIN.items():
        for name in taken(command):
            yield [*words, f"{name}={draw.choice(injected)}", "out=out"]
            if draw.random() < 0.3:
                yield [*words, f"{name}._target_={draw.choice([handler, 'os.system', 'torch.nn.Linear'])}", "out=out"]
    for each in injected:
        for option in ("objective", "encoder", "invariance", "recipe", "invariance.parts", "projector"):
            if option in ("encoder", "objective") and "DGCNN, k" in each and option == "encoder":
                continue
            yield [*PRETRAIN, f"{option}={each}", "out=out"]
        yield [*PROBE, f"episodes=[{each}]", "out=out"]
        yield [*COMPRESS, "checkpoint=tuned/encoder", f"recipe.quantize.layers={each}", "out=out"]
        yield [*COMPRESS, "out=out", f"checkpoint={each}"]
    for target in (
        handler,
        "os.system",
        "torch.nn.Linear",
        "geo3d.data.nothing",
        "geo3d",
        "",
        "x" * 3000,
        "a..b",
        "...",
    ):
        for part in ("encoder", "objective", "invariance", "data", "trainer"):
            yield [*PRETRAIN, f"{part}._target_={target}", "out=out"]
        yield [*FINETUNE, "checkpoint=pre/encoder", f"task._target_={target}", "out=out"]
        yield ["data", "check", "shapes", f"_target_={target}"]


def paths(draw: Random) -> Iterator[Words]:
    """Commands with a path that leads nowhere, or to something else."""
    bad = [
        "",
        "file",
        "file/below",
        "loop",
        "loop/below",
        "/proc/nothing/x",
        "/dev/null",
        "x" * 300,
        "clouds/test/ball/0.npz",
    ]
    bad += ["[a]", "{a: 1}", "null", "~nobody-of-that-name/x"]
    for command, words in PLAIN.items():
        for path in bad:
            yield [*words, f"out={path}"]
        if command not in ("demo", "pretrain", "sweep"):
            yield [*words, "out=pre"]
    there = ["nowhere", "hollow", "cut", "deep", "clouds", "pre/checkpoints", "pre/encoder/encoder.json", "/", "."]
    for path in (*bad, *there):
        for command in ("finetune", "probe", "embed", "compress"):
            if not (command == "finetune" and path == "null"):
                yield [*PLAIN[command], f"checkpoint={path}", "out=out"]
        yield [*SWEEP, f"checkpoints.tiny={path}", "out=out"]
        yield ["export", f"checkpoint={path}", "out=e.onnx"]
        yield ["bench", f"checkpoint={path}", "repeats=1", "memory=false"]
    for path in (*bad, "nowhere", "hollow"):
        yield [*PRETRAIN, f"data.root={path}", "out=out"]
        yield ["data", "check", "folder", f"root={path}"]
    for path in (*bad[:-4], "nowhere", "hollow", "empty.npz", "cloud.dat", "words.xyz", "clouds", "pre/metrics.json"):
        if path not in ("", "clouds/test/ball/0.npz"):
            yield ["embed", f"cloud={path}", "checkpoint=pre/encoder", "out=out"]
    for path in ("file/below.onnx", "hollow", "loop/e.onnx", "/proc/nothing/e.onnx", "x" * 300 + ".onnx", ""):
        yield ["export", "checkpoint=pre/encoder", f"out={path}"]
    for pattern in ("", "[", "nothing*", "../**/*", "/**", "**"):
        if pattern != "**":
            yield [*PRETRAIN, f"data.pattern={pattern}", "out=out"]


def contradictions(draw: Random) -> Iterator[Words]:
    """Commands with options that are valid one by one, but not together."""
    without = [word for word in PRETRAIN if "max_epochs" not in word]
    for words in (
        [*without], [*PRETRAIN, "encoder.channels=[]"], [*PRETRAIN, "projector=[]"], [*PRETRAIN, "data=null"],
        [*PRETRAIN, "encoder=null"], [*PRETRAIN, "objective=null"], [*PRETRAIN, "invariance=null"],
        [*PRETRAIN, "trainer.precision=16-mixed"], 
        [*PRETRAIN, "trainer.accelerator=gpu"], [*PRETRAIN, "trainer.accelerator=tpu"],
        [*PRETRAIN, "trainer.strategy=x"],
        [*PRETRAIN, "trainer.devices=1000"], [*PRETRAIN, "data.batch_size=1"],
        [*without, "trainer.max_time=1"], [*without, "trainer.max_time=00:00"], [*without, "trainer.max_time=1:2:3:x"],
        [*without, "trainer.max_time=99999999999:00:00:00"], [*without, "trainer.max_time=00:00:00:00"],
        [*without, "trainer.max_time=[1]"], 
        [*PRETRAIN, "data.rotation=all"], [*PRETRAIN, "data.up=w"], [*PRETRAIN, "data.holdout=1"],
        [*PRETRAIN, "data.num_points=1"], [*PRETRAIN, "data.num_points=0"], [*PRETRAIN, "recipe.quantize.weights=9"],
        [*PRETRAIN, "recipe=w8a8", "recipe.quantize.layers={a: [4, 4]}"], [*PRETRAIN, "recipe.encoder.width=2"],
        [*FINETUNE], [*FINETUNE, "encoder=pointnet", "checkpoint=pre/encoder"], [*FINETUNE, "from_scratch=true"],
        [*FINETUNE, "checkpoint=pre/encoder", "task.lr=0.1"], [*FINETUNE, "checkpoint=pre/encoder", "task.freeze=true"],
        [*FINETUNE, "checkpoint=pre/encoder", "data.label_fraction=0"],
        [*FINETUNE, "checkpoint=pre/encoder", "data.label_fraction=1.5"],
        [*PROBE, "episodes=[[5]]"], [*PROBE, "episodes=[[50,1]]"], [*PROBE, "episodes=[[1,2,3]]"],
        [*PROBE, "episodes=[5,1]"],
        [*PROBE, "episodes=[[0,1]]"], [*PROBE, "episodes=[[2,-1]]"], [*PROBE, "episodes=[[2,100000]]"],
        [*PROBE, "shots=100000"], [*PROBE, "seeds=0"], [*PROBE, "draws=0"], [*PROBE, "protocol=zzz"],
        [*PROBE, "ceiling=-1"],
        [*PROBE, "checkpoint=[]"], [*PROBE, "checkpoint=[pre/encoder,nowhere]"], [*PROBE, "data=null"],
        [*PLAIN["compress"], "labels=-1"], [*COMPRESS, "checkpoint=pre/encoder", "recipe=w4a8", "labels=1"],
        [*PLAIN["compress"], "points=0"], [*PLAIN["compress"], "points=17"], [*PLAIN["compress"], "recipe=null"],
        [*PLAIN["compress"], "recipe.quantize=4"], [*PLAIN["compress"], "recipe.encoder={k: many}"],
        [*PLAIN["compress"], "recipe.encoder.embedding=16"], [*PLAIN["compress"], "recipe.quantise.weights=4"],
        [*PLAIN["compress"], "recipe.prune={kept: 0}"], [*PLAIN["compress"], "recipe.prune={kept: 2}"],
        [*PLAIN["compress"], "recipe.structure={reduction: 0.1}"], [*PLAIN["compress"], "draws=0"],
        [*PLAIN["compress"], "shaping_steps=0"], [*COMPRESS, "checkpoint=tuned/encoder", "recipe.adapt.widths=[2]"],
        [*SWEEP, "runs=3"], [*SWEEP, "runs={a: 3}"], [*SWEEP, "runs={a: {of: [other]}}"],
        [*SWEEP, "runs={a: {of: 3}}"],
        [*SWEEP, "runs={a: {seeds: x}}"], [*SWEEP, "runs={a: {steps: 0}}"], [*SWEEP, "runs={a: {points: -1}}"],
        [*SWEEP, "checkpoints=[a]"], [*SWEEP, "seeds=[a]"], [*SWEEP, "seeds=3"],
        [*SWEEP, "runs={../../a: {quantize: {weights: 8}}}"], [*SWEEP, "checkpoints={../../a: tuned/encoder}"],
        [*EMBED, "cloud=clouds/test/ball/0.npz"], ["embed", "checkpoint=pre/encoder"], [*EMBED, "up=w"],
        ["demo", "size=255"], ["demo", "epochs=0"], ["demo", "size=256", "num_points=0"],
        ["demo", "size=256", "num_points=-3"],
    ):  # fmt: skip
        yield [*words, "out=out"]
    yield ["pretrain", *TINY, *DATA, *CPU, "trainer.max_epochs=1"]
    yield [*(word for word in SWEEP if "checkpoints" not in word), "out=out"]
    deep = "[" * 2000 + "]" * 2000
    for option in ("projector", "lr", "encoder.channels", "data.root", "trainer.max_epochs"):
        yield [*PRETRAIN, f"{option}={deep}", "out=out"]
        yield [*PRETRAIN, f"{option}={'{a: ' * 900}1{'}' * 900}", "out=out"]
        yield [*PRETRAIN, f"{option}=${{oc.env:HOME}}", "out=out"]
        yield [*PRETRAIN, f"{option}=${{{option}}}", "out=out"]


def tools(draw: Random) -> Iterator[Words]:
    """Wrong calls of the commands that are not jobs."""
    export = ["export", "checkpoint=pre/encoder", "out=e.onnx"]
    for word in (
        "format=zip", "format=", "opset=0", "opset=abc", "opset=99", "opset=-1", "opset=1000000000000000000000",
        
        "clouds=0", "clouds=x", "num_points=0", "num_points=1e3", "num_points=1000000000000", "check=maybe",
        "int4=2", "chek=true",
        "neighbors=outside", "precision=16", "format=torch", "checkpoint=", "out=", "zzz", "--help=1",
        "clouds=100000000000000000000",
    ):  # fmt: skip
        yield [*export, word]
    yield from (["export", *words] for words in (["zzz"], ["out=e.onnx"], ["checkpoint=pre/encoder"]))
    yield from (
        ["doctor", "x"], ["doctor", "--fix"], ["data", "zzz"], ["data", "list", "more"], ["data", "check"],
        ["data", "check", "zzz"], ["data", "check", "folder"], ["data", "check", "folder", "root"],
        ["data", "check", "shapes", "size=-1"], ["data", "check", "shapes", "size=abc"],
        ["data", "check", "shapes", "zzz=1"],
        ["data", "check", "shapes", "size=0"], ["data", "check", "shapes", "part=none"],
        ["data", "check", "shapes", "num_points=0"],
        ["data", "check", "shapes", "num_points=100000000000000000000"], ["data", "check", "shapes", "hydra.run.dir=x"],
        ["data", "check", "folder", "root=clouds", "split=val"], ["data", "check", "folder", "root=clouds", "up=w"],
        ["data", "check", "modelnet", "root=clouds"], ["data", "check", "modelnet", "root=clouds", "num_classes=3"],
        ["data", "check", "folder", "root=clouds", "_partial_=true"], ["data", "check", "../encoder/dgcnn"],
        ["bench", "zzz"], ["bench", "kernels"], ["bench", "model"], ["bench", "--zzz"], ["bench", "repeats=1"],
        ["bench", "checkpoint="], ["bench", "checkpoint=[]"], ["bench", "--checkpoint", "pre/encoder"],
        ["bench", "checkpoint=pre/encoder", "engines=[zzz]"], ["bench", "checkpoint=pre/encoder", "data=zzz"],
        ["bench", "checkpoint=pre/encoder", "data.root=clouds"], ["bench", "checkpoint=pre/encoder", "rotation=x"],
        ["bench", "checkpoint=pre/encoder", "reference=nobody"], ["bench", "checkpoint=pre/encoder", "repeats=0"],
        ["bench", "checkpoint=pre/encoder", "threads=[1,0]"], ["bench", "checkpoint=pre/encoder", "num_points=0"],
        ["bench", "checkpoint=pre/encoder", "names=[a,b]"], ["bench", "checkpoint=pre/encoder", "zzz=1"],
        ["bench", "checkpoint=pre/encoder", "out=file/x"], ["embed", "a.npz", "checkpoint=pre/encoder"],
        ["", "out=out"], ["--zzz"], ["-x"], ["pretrain pretrain"],
    )  # fmt: skip


KINDS = {
    "values": values,
    "names": names,
    "targets": targets,
    "paths": paths,
    "contradictions": contradictions,
    "tools": tools,
}
