"""The command line: train, evaluate, predict, summary, bench, filter, plot, info.

Figures go to standard output, progress and remarks to standard error. A wrong call ends with one
line and status 2, any other failure with one line and status 1, Ctrl-C with status 130.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np

import fastconv as fc
from fastconv.config import current

__all__ = ["main"]

IMAGE_SIZE = 28
LEARNING_RATE = {"sgd": 0.1, "adam": 1e-3}
# The embedded sample has few images: more and smaller steps.
EPOCHS, SAMPLE_EPOCHS = 10, 40
BATCH_SIZE, SAMPLE_BATCH_SIZE = 256, 50
SHEET_IMAGES, RECEPTIVE_FIELD_IMAGES = 60, 200

EPILOG = """\
The chapter's recipe (Dive into Deep Learning, LeNet):
  fastconv train --activation sigmoid --pool avg --optimizer sgd --lr 0.9
"""
FILTER_EPILOG = """\
kernels:
  edge derivative:ORDER laplacian sobel prewitt box:SIZE integral:SIZE gaussian:SIZE sharpen
  emboss gabor:SIZE,WAVELENGTH, with the arguments of fastconv.kernels: derivative:2,axis=0
  sobel and prewitt without an axis give the length of the gradient.
  A named kernel whose sum is not 1 is divided by the sum of its positive weights, so that a step
  from black to white gives the whole range; the numbers of a FILE.npy are used as they are.

values:
  clip     results below black or above white become that
  abs      without their sign
  signed   0 becomes middle grey, black and white are minus and plus the whole range
  stretch  the smallest result becomes black, the largest white
  auto     abs where the kernel's weights cancel (edges, derivatives), else clip
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line, where argparse would print the whole usage."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text}")
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(value) -> None:
    print(json.dumps(value, indent=2))


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


# --- what the commands share ---------------------------------------------------------------------


def _build(meta: dict):
    """The network that `meta` describes, with fresh weights."""
    from fastconv import nn

    return nn.MODELS[meta["model"]](
        activation=meta["activation"], pool=meta["pool"], seed=meta.get("seed")
    )


def _fresh(args, model: str, activation: str):
    """The network that --model, --activation and --pool describe, untrained."""
    pool = args.pool or ("avg" if model == "lenet_improved" else "max")
    return _build({"model": model, "activation": activation, "pool": pool, "seed": 0})


def _weights_file(place: str) -> Path:
    """The file of weights that a run folder, or a path to a file, means."""
    path = Path(place)
    if path.is_dir():
        for name in ("weights.npz", "checkpoint.npz"):
            if (path / name).exists():
                return path / name
        raise FileNotFoundError(f"{place}: no weights.npz or checkpoint.npz in this folder")
    if not path.exists():
        raise FileNotFoundError(f"{place}: no such run folder or file of weights")
    return path


def _trained(place: str):
    """(network, meta) of a run."""
    from fastconv import nn

    path = _weights_file(place)
    found = nn.load_checkpoint(path)
    missing = [key for key in ("model", "activation", "pool", "dataset") if key not in found.meta]
    if missing:
        raise ValueError(f"{path}: not written by fastconv train (it lacks {', '.join(missing)})")
    net = _build(found.meta)
    net.load_state_dict(found.weights)
    return net.eval(), found.meta


def _data(name: str):
    """(training data, test data, name), the embedded sample where `name` is not to be had."""
    from fastconv import datasets

    try:
        return datasets.load(name, "train"), datasets.load(name, "test"), name
    except datasets.DatasetUnavailable as error:
        if name != "fashion-mnist":
            raise
        _say(f"{error}")
        _say(
            "Fashion-MNIST is not on this machine and cannot be downloaded: using the embedded "
            "sample of it instead (1,600 training and 400 test images; expect a lower accuracy)"
        )
        return *datasets.embedded_sample(), "sample"


def _test_data(args, meta: dict):
    """The test images that --dataset and --limit mean; default: those of the run's data set."""
    from fastconv import datasets

    return _limited(datasets.load(args.dataset or meta["dataset"], "test"), args.limit)


def _limited(data, limit: int | None):
    return data if limit is None or limit >= len(data) else data.take(limit)


@contextlib.contextmanager
def _settings(args):
    if getattr(args, "threads", None):
        fc.set_num_threads(args.threads)
    with fc.using(backend=getattr(args, "backend", None)):
        yield


# --- train ---------------------------------------------------------------------------------------


class _Progress:
    """A progress bar where someone watches, else a line for each epoch."""

    def __init__(self):
        self.bar = None
        self.make = None
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self.make = tqdm

    def on_epoch_start(self, state):
        if self.make:
            self.bar = self.make(
                total=state.steps,
                initial=state.step,
                desc=f"epoch {state.epoch}/{state.epochs}",
                file=sys.stderr,
                leave=False,
                unit="batch",
            )

    def on_batch(self, state):
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {state.mean_loss:.3f}", refresh=False)
            self.bar.update()

    def on_epoch(self, state):
        self.close()
        r = state.history.final
        _say(
            f"epoch {r.epoch}/{state.epochs}: loss {r.train_loss:.4f}, "
            f"test accuracy {r.test_accuracy:.4f}, {r.seconds:.1f} s"
        )

    def close(self):
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class _Compiling:
    """Says that kernels have to be compiled, and after the first epoch how long that took."""

    def __init__(self, backend):
        self.backend = backend
        self.before = backend.compile_seconds()
        backend.on_compile(lambda: _say("Numba compiles its kernels, which takes some seconds"))

    def on_epoch(self, state):
        if self.before is not None:
            seconds, self.before = self.backend.compile_seconds() - self.before, None
            if seconds:
                _say(f"Numba compiled for {seconds:.1f} s")


def _notes():
    """Callbacks that the backend in use calls for."""
    if current().backend != "numba":
        return ()
    from fastconv import registry

    registry.require("numba")
    from fastconv.backends import numba

    return (_Compiling(numba),)


def _new_folder(dataset: str, model: str) -> Path:
    """runs/<dataset>-<model>, with a number where that exists."""
    base = Path("runs") / f"{dataset}-{model}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def _run_meta(args, dataset: str) -> dict:
    sample = dataset == "sample"
    optimizer = args.optimizer or "adam"
    return {
        "model": args.model or "lenet",
        "activation": args.activation or "relu",
        "pool": args.pool or ("avg" if args.model == "lenet_improved" else "max"),
        "dataset": dataset,
        "optimizer": optimizer,
        "lr": args.lr if args.lr is not None else LEARNING_RATE[optimizer],
        "momentum": args.momentum or 0.0,
        "schedule": args.schedule or "constant",
        "epochs": args.epochs or (SAMPLE_EPOCHS if sample else EPOCHS),
        "batch_size": args.batch_size or (SAMPLE_BATCH_SIZE if sample else BATCH_SIZE),
        "seed": args.seed if args.seed is not None else 0,
        "limit": args.limit,
    }


def _resumed_meta(args) -> tuple[dict, Path]:
    """(meta, checkpoint) of the run that --resume names; only --epochs may be changed."""
    from fastconv import nn

    path = Path(args.resume)
    if path.is_dir():
        path = path / "checkpoint.npz"
    if not path.exists():
        raise FileNotFoundError(f"--resume: {path} does not exist")
    fixed = {
        "--dataset": args.dataset,
        "--model": args.model,
        "--activation": args.activation,
        "--pool": args.pool,
        "--optimizer": args.optimizer,
        "--lr": args.lr,
        "--momentum": args.momentum,
        "--schedule": args.schedule,
        "--batch-size": args.batch_size,
        "--seed": args.seed,
        "--limit": args.limit,
    }
    given = [name for name, value in fixed.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: a resumed run keeps its settings; leave these out")
    meta = dict(nn.load_checkpoint(path).meta)
    if "batch_size" not in meta:
        raise ValueError(f"--resume: {path} was not written by fastconv train")
    if args.epochs:
        meta["epochs"] = args.epochs
    return meta, path


def _optimizer(net, meta):
    from fastconv import nn

    if meta["optimizer"] == "adam":
        return nn.Adam(net.parameters(), lr=meta["lr"])
    return nn.SGD(net.parameters(), lr=meta["lr"], momentum=meta["momentum"])


def _schedule(meta):
    """Callbacks that change the learning rate."""
    from fastconv import nn

    # a run of before there were schedules has no such entry
    return [nn.CosineAnnealing(meta["lr"])] if meta.get("schedule") == "cosine" else []


def _pictures(folder: Path, history, result, net, test, title: str) -> list[Path]:
    from fastconv import nn, plot

    shown = test.take(SHEET_IMAGES)
    guesses = nn.predict(net, shown.images)
    sheet = plot.prediction_sheet(shown.images, shown.labels, guesses, test.classes, title)
    drawn = {
        "learning_curve": plot.learning_curve(history, title),
        "confusion_matrix": plot.confusion_matrix(result.confusion, test.classes, title),
        "predictions": sheet,
    }
    return [plot.save(axes, folder / f"{name}.png") for name, axes in drawn.items()]


def train(args) -> int:
    """Train a network and write the run's folder."""
    from fastconv import nn

    if args.momentum and (args.optimizer or "adam") != "sgd":
        raise ValueError("--momentum: only --optimizer sgd has one")
    if args.resume:
        meta, resume = _resumed_meta(args)
        dataset = meta["dataset"]
        folder = Path(args.output) if args.output else resume.parent
    else:
        resume, dataset = None, args.dataset or "fashion-mnist"
    train_data, test_data, dataset = _data(dataset)
    if resume is None:
        meta = _run_meta(args, dataset)
        folder = Path(args.output) if args.output else _new_folder(dataset, meta["model"])
        if (folder / "checkpoint.npz").exists():
            raise ValueError(
                f"--output: {folder} holds a run already; resume it with --resume {folder}, "
                "or name another folder"
            )
    elif dataset != meta["dataset"]:
        raise ValueError(f"--resume: the run's data set {meta['dataset']!r} is not to be had")
    folder.mkdir(parents=True, exist_ok=True)
    train_data = _limited(train_data, meta["limit"])
    test_data = _limited(test_data, meta["limit"])

    notes = _notes()
    net = _build(meta)
    progress = _Progress()
    checkpoint = folder / "checkpoint.npz"
    _say(
        f"{meta['model']} ({meta['activation']}, {meta['pool']} pooling) on {len(train_data)} "
        f"images of {dataset}, {meta['epochs']} epochs, {fc.get_num_threads()} thread(s)"
    )
    try:
        history = nn.fit(
            net,
            train_data,
            epochs=meta["epochs"],
            batch_size=meta["batch_size"],
            optimizer=_optimizer(net, meta),
            seed=meta["seed"],
            validation=test_data,
            callbacks=(progress, *notes, *_schedule(meta)),
            checkpoint=checkpoint,
            resume=resume,
            meta=meta,
        )
    except KeyboardInterrupt as interrupted:
        progress.close()
        _say(f"\n{interrupted}")
        if checkpoint.exists():
            _say(f"go on with: fastconv train --resume {folder}")
        return 130
    finally:
        progress.close()

    result = nn.evaluate(net, test_data)
    nn.save_checkpoint(folder / "weights.npz", net, meta=meta)
    metrics = {
        **meta,
        "images": {"train": len(train_data), "test": len(test_data)},
        "test_loss": result.loss,
        "test_accuracy": result.accuracy,
        "confusion": result.confusion.tolist(),
        "history": history.as_dict(),
        "fastconv": fc.__version__,
    }
    _write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    title = f"{meta['model']} on {dataset}: test accuracy {result.accuracy:.3f}"
    try:
        pictures = _pictures(folder, history, result, net, test_data, title)
    except ImportError as error:
        pictures = []
        _say(f"no pictures were drawn: {error}")
    if args.json:
        _print_json({**metrics, "folder": str(folder), "pictures": [str(p) for p in pictures]})
        return 0
    print(history.table())
    print(f"\ntest accuracy {result.accuracy:.4f} ({len(test_data)} images of {dataset})")
    print(f"weights, checkpoint and metrics: {folder}")
    for picture in pictures:
        print(f"picture: {picture}")
    return 0


# --- the other commands --------------------------------------------------------------------------


def evaluate(args) -> int:
    """Loss, accuracy and confusion of a trained network."""
    from fastconv import nn

    net, meta = _trained(args.run)
    test = _test_data(args, meta)
    name, result = test.name, nn.evaluate(net, test)
    recall = np.diag(result.confusion) / np.maximum(result.confusion.sum(axis=1), 1)
    if args.json:
        _print_json(
            {
                "dataset": name,
                "images": len(test),
                "loss": result.loss,
                "accuracy": result.accuracy,
                "recall": dict(zip(test.classes, recall.tolist(), strict=True)),
                "confusion": result.confusion.tolist(),
                "images_per_second": result.images_per_second,
            }
        )
        return 0
    print(f"{name}: {len(test)} test images")
    print(f"loss      {result.loss:.4f}")
    print(f"accuracy  {result.accuracy:.4f}")
    for label, share in zip(test.classes, recall, strict=True):
        print(f"  {label:12} {share:.4f}")
    return 0


def _read_image(path: str) -> np.ndarray:
    """An image file as (H, W) grey levels from 0 to 255."""
    if path.endswith(".npy"):
        image = np.load(path, allow_pickle=False)
        if image.ndim == 3 and image.shape[-1] in (3, 4):
            image = image[..., :3] @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
        if image.ndim != 2 or image.dtype.kind not in "uif" or not image.size:
            raise ValueError(
                f"{path}: expected an image of shape (H, W) or (H, W, 3), "
                f"got {image.dtype} of shape {image.shape}"
            )
        image = image.astype(np.float64)
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 255:
            raise ValueError(f"{path}: expected values from 0 to 255 (or from 0 to 1)")
        return image * 255 if image.max() <= 1 else image
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            f"{path}: reading pictures needs Pillow; install it with: pip install "
            "'fastconv[train]', or give a .npy file"
        ) from error
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"), np.float64)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture that Pillow can read") from None


def _shares(source: int, target: int) -> np.ndarray:
    """(target, source): how much of each output pixel each input pixel covers."""
    edges = np.arange(target + 1) * (source / target)
    pixels = np.arange(source)
    upper = np.minimum(edges[1:, None], pixels + 1)
    lower = np.maximum(edges[:-1, None], pixels)
    return np.maximum(upper - lower, 0) * (target / source)


def _fitted(image: np.ndarray, invert: str) -> np.ndarray:
    """(28, 28) uint8, light on dark as in the data sets."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if invert == "always" or (invert == "auto" and np.median(border) > 127):
        image = 255 - image
    if image.shape != (IMAGE_SIZE, IMAGE_SIZE):
        rows, cols = (_shares(n, IMAGE_SIZE) for n in image.shape)
        image = rows @ image @ cols.T
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def predict(args) -> int:
    """Class of each image."""
    from fastconv import datasets, nn

    images = np.stack([_fitted(_read_image(path), args.invert) for path in args.image])
    net, meta = _trained(args.weights)
    chances = nn.probabilities(net, images)
    classes = datasets.class_names(meta["dataset"])
    found = [
        {"image": path, "class": classes[int(p.argmax())], "probability": float(p.max())}
        for path, p in zip(args.image, chances, strict=True)
    ]
    if args.json:
        _print_json(found)
        return 0
    for row in found:
        print(f"{row['image']}: {row['class']} ({row['probability']:.3f})")
    return 0


def summary(args) -> int:
    """Layers, shapes, parameters and work of a network."""
    net = _fresh(args, args.model, args.activation)
    table = net.summary((args.batch_size, 1, IMAGE_SIZE, IMAGE_SIZE))
    if args.json:
        _print_json(table.as_dict())
    else:
        print(table)
    return 0


def info(args) -> int:
    """What show_config prints."""
    if args.json:
        from fastconv.config import config

        _print_json(config())
    else:
        fc.show_config()
    return 0


# --- bench ---------------------------------------------------------------------------------------


def _command_line(arguments: list[str]) -> str:
    """The command as it was given, with names of files instead of whole paths."""
    short = [Path(a).name if os.path.isabs(a) else a for a in arguments]
    return shlex.join(["fastconv", *short])


def _bench_layers(args, command: str):
    """(results, failures) of the layers that were asked for."""
    from fastconv.bench import run, timing
    from fastconv.config import _usable_cpus

    problems = run.select(args.layers, args.ops, args.allocation)
    peers = run.select_peers(args.peers)
    if not timing.limits_blas():
        _say(
            "threadpoolctl is not installed (pip install threadpoolctl): NumPy's own routines keep "
            "the number of threads that their library chose"
        )
    if args.bench_threads > _usable_cpus():
        _say(f"{args.bench_threads} threads on {_usable_cpus()} CPUs: they take turns")
    return run.measure(
        problems, args.bench_threads, peers, args.rounds, args.baselines, command, _say
    )


def _bench_cold_start(args, command: str):
    """(results, failures) of the cold starts."""
    from fastconv.bench import coldstart, run

    refused = {
        "--layers": args.layers,
        "--ops": args.ops,
        "--plot": args.plot,
        "--baselines": args.baselines,
    }
    given = [name for name, value in refused.items() if value]
    if given:
        raise ValueError(f"{', '.join(given)}: --cold-start measures no layers; leave these out")
    results = run.about(args.bench_threads, command) | {"rows": []}
    peers = run.select_peers(args.peers)
    try:
        results["cold_start"] = coldstart.measure(peers, min(args.rounds, 5), _say)
    except RuntimeError as error:
        return results, [str(error)]
    return results, []


def bench(args) -> int:
    """Time the layers of the benchmark suite beside the peers that are installed."""
    from fastconv.bench import contenders, table

    target = None if args.json in (None, "-") else Path(args.json)
    if target is not None and not target.absolute().parent.is_dir():
        raise ValueError(f"--json: the folder of {target} does not exist")
    folder = None if args.plot is None else Path(args.plot)
    if folder is not None:
        from fastconv.bench import plots

        plots.require()
        folder.mkdir(parents=True, exist_ok=True)
    command = _command_line(args.given)
    results, failures = (_bench_cold_start if args.cold_start else _bench_layers)(args, command)
    for line in contenders.missing():
        _say(f"missing peer: {line}")
    for line in failures:
        _say(f"failed: {line}")
    if target is not None:
        _write_text(target, table.dumped(results))
    if args.json == "-":
        _print_json(results)
    elif "cold_start" in results:
        print(table.cold_text(results["cold_start"]))
    elif results["rows"]:
        print(table.text(results["rows"]))
        print(table.about_text(results))
        print(f"highest rates measured here: {table.peaks_text(results['peaks'])}")
    if folder is not None and results["rows"]:
        for picture in plots.draw(results, folder):
            print(f"picture: {picture}", file=sys.stderr if args.json == "-" else sys.stdout)
    return 1 if failures else 0


# --- filter and plot -----------------------------------------------------------------------------


def _file(name: str, place: str) -> Path:
    """A file that is there."""
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"{name}: {place}: no such file")
    return path


def _target(name: str, place: str) -> Path:
    """A PNG file that can be written, as far as can be seen."""
    path = Path(place)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{name}: expected the name of a .png file, got {place}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{name}: {place}: its folder does not exist, or it is one itself")
    return path


def _kernel_file(name: str, place: str) -> np.ndarray:
    """The kernel in a .npy file."""
    with open(_file(name, place), "rb") as file:
        try:
            kernel = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{name}: {place}: not a .npy file of numbers ({error})") from None
    if (
        kernel.ndim != 2
        or kernel.dtype.kind not in "biuf"
        or not kernel.size
        or not np.isfinite(kernel).all()
    ):
        raise ValueError(
            f"{name}: {place}: expected finite numbers of shape (R, S), "
            f"got {kernel.dtype} of shape {kernel.shape}"
        )
    return kernel.astype(np.float64)


def _filters(text: str) -> list[np.ndarray]:
    """One kernel, or the two whose results make the length of a gradient.

    A named kernel whose sum is not 1 is divided by the sum of its positive weights: then a step
    from black to white gives the whole range, and no result lies beyond it.
    """
    from fastconv import kernels

    if text.endswith(".npy"):
        return [_kernel_file("--kernel", text)]
    names = [f"{text}:0", f"{text}:1"] if text in ("sobel", "prewitt") else [text]
    found = [kernels.named(name) for name in names]
    return [k if abs(k.sum() - 1) < 1e-9 else k / (k[k > 0].sum() or 1.0) for k in found]


def _values_of(filters: list[np.ndarray]) -> str:
    """What --values auto means: the size of results that are as often negative as positive."""
    kernel = filters[0]
    return "abs" if abs(kernel.sum()) <= 0.1 * np.abs(kernel).sum() else "clip"


def _filtered(levels: np.ndarray, filters, border: str, cval: float, values: str) -> np.ndarray:
    """`levels` (H, W, C) through the filters, each channel on its own, in its dtype."""
    from fastconv import signal

    full = np.iinfo(levels.dtype).max
    planes = np.moveaxis(levels, -1, 0)
    found = [signal.filter2d(planes, kernel, border, cval) for kernel in filters]
    result = found[0] if len(found) == 1 else np.hypot(*found)
    if values == "auto":
        values = _values_of(filters)
    if values == "abs":
        result = np.abs(result)
    elif values == "signed":
        result = (result + full) / 2
    elif values == "stretch":
        low, high = result.min(), result.max()
        result = (result - low) * (full / ((high - low) or 1.0))
    return np.moveaxis(np.rint(result).clip(0, full).astype(levels.dtype), 0, -1)


def filter_image(args) -> int:
    """Filter a PNG image."""
    from fastconv import png

    source, target = _file("IN", args.source), _target("OUT", args.target)
    filters = _filters(args.kernel)
    before = png.read(source)
    levels = _filtered(before.colours, filters, args.border, args.cval, args.values)
    after = np.concatenate([levels, before.alpha], axis=-1)
    if args.compare:
        from fastconv import plot

        sheet = target.with_name(f"{target.stem}-compare.png")
        axes = plot.image(
            before.pixels, after, titles=(source.name, f"{args.kernel}, {args.border}")
        )
    png.write(target, after, before.chunks)
    height, width, channels = after.shape
    kind = ("grey", "grey and alpha", "colour", "colour and alpha")[channels - 1]
    print(f"{target}: {width} x {height}, {kind}, {8 * after.itemsize} bits")
    if args.compare:
        print(f"picture: {plot.save(axes, sheet)}")
    return 0


# What `fastconv plot kernels` shows where none is named.
_GALLERY = (
    "edge",
    "derivative:1",
    "derivative:2",
    "derivative:3",
    "laplacian",
    "laplacian:8",
    "sobel",
    "sobel:0",
    "prewitt",
    "box:3",
    "gaussian:5",
    "sharpen",
    "emboss",
    "gabor:15,6",
    "gabor:15,6,phase=1.5708",
    "gabor:15,6,theta=0.7854",
)


def _draw_kernels(args):
    from fastconv import kernels, plot

    sheet = {}
    for text in args.kernel or _GALLERY:
        if text.endswith(".npy"):
            sheet[Path(text).stem] = _kernel_file("KERNEL", text)
        elif text.endswith(".npz") or Path(text).is_dir():
            net, _ = _trained(text)
            weight = next(p.data for p in net.parameters() if p.data.ndim == 4)
            sheet |= {f"filter {k}": each[0] for k, each in enumerate(weight)}
        else:
            sheet[text] = kernels.named(text)
    relative = args.relative or not args.kernel
    return plot.kernels(sheet, title=args.title, relative=relative)


def _draw_image(args):
    from fastconv import plot, png

    images = [png.read(_file("IMAGE", place)).pixels for place in args.image]
    return plot.image(*images, titles=[Path(p).name for p in args.image], title=args.title)


def _draw_curve(args):
    from fastconv import plot

    history, about = _history(args.run)
    return plot.learning_curve(history, args.title or about)


def _history(place: str):
    """(history, what it is of) of a run; of one that has not finished as far as it came."""
    from fastconv import nn

    folder = Path(place) if Path(place).is_dir() else _weights_file(place).parent
    metrics, checkpoint = folder / "metrics.json", folder / "checkpoint.npz"
    try:
        if metrics.exists():
            found = json.loads(metrics.read_text())
            history = nn.History.from_dict(found["history"])
            about = f"{found['model']} on {found['dataset']}"
            return history, f"{about}: test accuracy {found['test_accuracy']:.3f}"
        if checkpoint.exists():
            found = nn.load_checkpoint(checkpoint)
            history = nn.History.from_dict(found.run["history"])
            return history, f"{found.meta['model']} on {found.meta['dataset']}, not finished"
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"RUN: {folder}: no whole record of a training run ({error!r})") from None
    raise FileNotFoundError(f"RUN: {folder}: no metrics.json or checkpoint.npz in this folder")


def _draw_confusion(args):
    from fastconv import nn, plot

    net, meta = _trained(args.run)
    test = _test_data(args, meta)
    result = nn.evaluate(net, test)
    about = f"{meta['model']} on {len(test)} images of {test.name}: accuracy {result.accuracy:.3f}"
    return plot.confusion_matrix(result.confusion, test.classes, args.title or about)


def _draw_activations(args):
    from fastconv import plot

    net, meta = _trained(args.run)
    test = _test_data(args, meta)
    shown = _of_classes(test, args.classes, args.count)
    return plot.activations(
        net,
        test.images[shown],
        args.layers and [_layer(text) for text in args.layers],
        [test.classes[label] for label in test.labels[shown]],
        args.title or f"{meta['model']} on {test.name}",
    )


def _of_classes(data, names, count: int | None) -> list[int]:
    """Positions of the first images, or of the first of each class that is named."""
    if names is None:
        return list(range(min(count or 3, len(data))))
    known = {name.lower(): label for label, name in enumerate(data.classes)}
    shown = []
    for name in names:
        if name.lower() not in known:
            classes = ", ".join(data.classes)
            raise ValueError(f"--classes: expected some of {classes}; got {name!r}")
        found = np.flatnonzero(data.labels == known[name.lower()])[: count or 1]
        if not len(found):
            raise ValueError(f"--classes: {len(data)} images of {data.name} have no {name!r}")
        shown += found.tolist()
    return shown


def _layer(text: str) -> int | str:
    """A layer's position, or its name."""
    try:
        return int(text)
    except ValueError:
        return text


def _draw_receptive_field(args):
    from fastconv import plot

    x, title = None, args.title
    if args.run is None:
        for name in ("dataset", "limit"):
            if getattr(args, name) is not None:
                raise ValueError(
                    f"--{name}: images are for the network of a RUN, and none is named"
                )
        net = _fresh(args, args.model or "lenet", args.activation or "relu")
    else:
        for name in ("model", "activation", "pool"):
            if getattr(args, name) is not None:
                raise ValueError(f"--{name}: a run has its own; leave this out, or the RUN")
        net, meta = _trained(args.run)
        test = _test_data(args, meta).take(args.limit or RECEPTIVE_FIELD_IMAGES)
        x, title = test.images, title or f"{meta['model']} on {test.name}"
    layer = None if args.layer is None else _layer(args.layer)
    shape = (1, 1, IMAGE_SIZE, IMAGE_SIZE)
    position = None if args.position is None else tuple(args.position)
    return plot.receptive_field(net, shape, layer, position, x, title)


def draw(args) -> int:
    """Draw a picture of one kind, into a file."""
    from fastconv import plot

    target = _target("--output", args.output or f"{args.kind}.png")
    print(f"picture: {plot.save(args.draw(args), target)}")
    return 0


def _add_plot(sub, models, activations, pools) -> None:
    """The kinds of picture: each a function from the arguments to Axes."""
    kinds = sub.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name, function, text, title="none"):
        each = kinds.add_parser(name, help=text, description=text)
        each.set_defaults(draw=function)
        each.add_argument("--output", metavar="FILE", help=f"PNG file (default: {name}.png)")
        each.add_argument("--title", default="", help=f"default: {title}")
        return each

    def of_images(each, many="default: all"):
        each.add_argument(
            "--dataset",
            choices=("fashion-mnist", "mnist", "sample"),
            help="whose test images (default: those of the run)",
        )
        each.add_argument(
            "--limit", type=_positive, help=f"use only the first N test images ({many})"
        )

    run = "a run's folder or a file of weights"

    each = kind("kernels", _draw_kernels, "A sheet of kernels on one colour scale.")
    each.add_argument(
        "kernel",
        nargs="*",
        help="as in fastconv filter --kernel, or the folder or weights of a training run: the "
        "filters of its first layer (default: some of each name, --relative)",
    )
    each.add_argument(
        "--relative", action="store_true", help="colour each by the share of its largest weight"
    )

    each = kind(
        "activations",
        _draw_activations,
        "Feature maps of a trained network for test images, on one colour scale.",
        "the run's model and data set",
    )
    each.add_argument("run", metavar="RUN", help=run)
    each.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="of these classes, in any case: pullover coat"
    )
    each.add_argument(
        "--count", type=_positive, help="images of each class (1), or without --classes (3)"
    )
    each.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="positions or names, as fastconv summary shows them (default: the first two "
        "convolutions, each with its activation)",
    )
    of_images(each)

    each = kind(
        "receptive-field",
        _draw_receptive_field,
        "What one output sees of the image, layer by layer, and how much each pixel counts for it: "
        "of a trained network and its test images, or of an untrained one and noise.",
        "the run's model and data set, or none",
    )
    each.add_argument("run", metavar="RUN", nargs="?", help=f"{run} (default: untrained)")
    each.add_argument("--model", choices=models, help="without a RUN (default lenet)")
    each.add_argument("--activation", choices=activations, help="without a RUN (default relu)")
    each.add_argument(
        "--pool", choices=pools, help="without a RUN (default max; lenet_improved: avg)"
    )
    each.add_argument(
        "--layer", help="position or name (default: the last that does not see everything)"
    )
    each.add_argument(
        "--position",
        nargs=2,
        type=int,
        metavar=("ROW", "COLUMN"),
        help="of the output (default: the one in the middle)",
    )
    of_images(each, f"default {RECEPTIVE_FIELD_IMAGES}")

    each = kind(
        "curve",
        _draw_curve,
        "Loss and accuracy of a training run by epoch; of an unfinished one as far as it came.",
        "the run's model, data set and accuracy",
    )
    each.add_argument("run", metavar="RUN", help=run)

    each = kind(
        "confusion",
        _draw_confusion,
        "How many test images of each class a trained network takes for which.",
        "the run's model, data set and accuracy",
    )
    each.add_argument("run", metavar="RUN", help=run)
    of_images(each)

    each = kind("image", _draw_image, "Images side by side.")
    each.add_argument("image", nargs="+", help="PNG file")


def _parser() -> argparse.ArgumentParser:
    models, activations = ("lenet", "lenet_improved"), ("relu", "sigmoid", "tanh")
    pools = ("avg", "max", "min", "softmax")
    parser = _Parser(prog="fastconv", description="Convolution and pooling for NumPy arrays.")
    parser.add_argument("--version", action="version", version=f"fastconv {fc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, text, json=True, name=None, **kwargs):
        name = name or function.__name__
        sub = commands.add_parser(name, help=text, description=text, **kwargs)
        sub.set_defaults(run_command=function)
        if json:
            sub.add_argument("--json", action="store_true", help="print the figures as JSON")
        return sub

    def running(sub):
        sub.add_argument("--backend", help="native, numba or reference (default: FASTCONV_BACKEND)")
        sub.add_argument("--threads", type=_positive, help="threads (default: all CPUs)")

    sub = command(
        train,
        "Train LeNet and write a folder with weights, metrics and pictures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument(
        "--dataset",
        choices=("fashion-mnist", "mnist", "sample"),
        help="default fashion-mnist; the embedded sample of it where it cannot be had",
    )
    sub.add_argument("--model", choices=models, help="default lenet")
    sub.add_argument("--pool", choices=pools, help="default max (lenet_improved: avg)")
    sub.add_argument("--activation", choices=activations, help="default relu")
    sub.add_argument("--epochs", type=_positive, help=f"default {EPOCHS} (sample: {SAMPLE_EPOCHS})")
    sub.add_argument(
        "--batch-size", type=_positive, help=f"default {BATCH_SIZE} (sample: {SAMPLE_BATCH_SIZE})"
    )
    sub.add_argument("--lr", type=_rate, help="learning rate (default: adam 0.001, sgd 0.1)")
    sub.add_argument("--optimizer", choices=("adam", "sgd"), help="default adam")
    sub.add_argument("--momentum", type=float, help="of sgd (default 0)")
    sub.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        help="of the learning rate; cosine falls to 0 (default constant)",
    )
    sub.add_argument("--seed", type=int, help="of the weights and the order (default 0)")
    sub.add_argument("--limit", type=_positive, help="use only the first N images of each part")
    sub.add_argument("--output", metavar="FOLDER", help="default: a new one under runs/")
    sub.add_argument("--resume", metavar="FOLDER", help="go on with the run in this folder")
    running(sub)

    sub = command(evaluate, "Loss and accuracy of a trained network on test images.")
    sub.add_argument("run", help="a run's folder or a file of weights")
    sub.add_argument("--dataset", choices=("fashion-mnist", "mnist", "sample"))
    sub.add_argument("--limit", type=_positive, help="use only the first N images")
    running(sub)

    sub = command(
        predict,
        "Class of each image (PNG, or .npy of shape (H, W)); it is turned to grey and to 28 x 28.",
    )
    sub.add_argument("image", nargs="+", help="picture or .npy file")
    sub.add_argument(
        "--weights", required=True, metavar="RUN", help="a run's folder or a file of weights"
    )
    sub.add_argument(
        "--invert",
        choices=("auto", "always", "never"),
        default="auto",
        help="the network knows light on dark; auto inverts where the border is light",
    )
    running(sub)

    sub = command(summary, "Layers, shapes, parameters and work of a network.")
    sub.add_argument("--model", choices=models, default="lenet")
    sub.add_argument("--pool", choices=pools)
    sub.add_argument("--activation", choices=activations, default="relu")
    sub.add_argument("--batch-size", type=_positive, default=1)

    sub = command(
        bench,
        "Time convolutions, pooling and LeNet beside PyTorch and the other peers installed.",
        json=False,
    )
    sub.add_argument(
        "--layers",
        nargs="+",
        metavar="PATTERN",
        help='those whose "family: layer" has it; * and ? as in file names; all; core (default)',
    )
    sub.add_argument("--ops", nargs="+", metavar="OP", help="forward, max, '*gradient', ...")
    sub.add_argument(
        "--threads", dest="bench_threads", type=_positive, default=1, help="of everybody (1)"
    )
    sub.add_argument(
        "--peers", nargs="+", metavar="NAME", help="these alone, or none (default: all installed)"
    )
    sub.add_argument("--baselines", action="store_true", help="also plain NumPy and plain loops")
    sub.add_argument("--rounds", type=_positive, default=15, help="samples of each (15)")
    sub.add_argument(
        "--allocation",
        choices=("fresh", "out"),
        default="fresh",
        help="fastconv's outputs: new arrays (the default, as the peers' are) or out=",
    )
    sub.add_argument(
        "--cold-start",
        action="store_true",
        help="instead of layers: size on disk, time to import, time to a first convolution",
    )
    sub.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print the figures as JSON, or write them to FILE beside the table",
    )
    sub.add_argument(
        "--plot",
        nargs="?",
        const=".",
        metavar="FOLDER",
        help="write roofline.png and bars.png there (default: here)",
    )

    sub = command(
        filter_image,
        "Filter a PNG image, grey or colour, of 8 or 16 bits: each channel on its own, alpha kept.",
        json=False,
        name="filter",
        epilog=FILTER_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument("source", metavar="IN.png")
    sub.add_argument("target", metavar="OUT.png")
    sub.add_argument(
        "--kernel",
        required=True,
        help="a name of fastconv.kernels with its arguments (gaussian:5, box:1x9), or a FILE.npy",
    )
    sub.add_argument(
        "--border",
        choices=("reflect", "mirror", "nearest", "replicate", "wrap", "constant"),
        default="reflect",
        help="what lies beyond the image, by SciPy's names (default reflect)",
    )
    sub.add_argument(
        "--cval", type=_finite, default=0.0, help="the constant border, as in the file (default 0)"
    )
    sub.add_argument(
        "--values",
        choices=("auto", "clip", "abs", "signed", "stretch"),
        default="auto",
        help="how results become pixels; see below",
    )
    sub.add_argument(
        "--compare", action="store_true", help="also write OUT-compare.png: before and after"
    )
    running(sub)

    sub = command(draw, "Draw a picture into a PNG file.", json=False, name="plot")
    _add_plot(sub, models, activations, pools)

    command(info, "Versions, instruction sets, threads and backends.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; default: those of the process.

    Returns
    -------
    int
        Exit status.

    Examples
    --------
    >>> from fastconv.cli import main
    >>> main(["summary", "--model", "lenet"])  # doctest: +ELLIPSIS
    name ...
    0
    """
    parser = _parser()
    args = parser.parse_args(argv)
    args.given = sys.argv[1:] if argv is None else argv
    name = f"fastconv {args.command}"
    try:
        with _settings(args):
            return args.run_command(args)
    except (ValueError, TypeError, FileNotFoundError) as error:
        _say(f"{name}: {error}")
        return 2
    except (OSError, ImportError, FloatingPointError, MemoryError) as error:
        _say(f"{name}: {error}")
        return 1
    except KeyboardInterrupt:
        _say(f"{name}: interrupted")
        return 130
