"""Who is measured on what.

A problem is a layer and an operation. `problem.makers()` has a function for each contender, by
name; calling it makes the contender, with data from a fixed seed and the float64 reference that it
is checked against. fastconv's own contenders are the rows of its registry, so a new method or
backend appears here by itself. The peers' are in `fastconv.bench.peers`.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property, partial
from importlib.util import find_spec
from math import prod

import numpy as np

import fastconv as fc
from fastconv import datasets, nn, registry
from fastconv.bench import baselines, peers
from fastconv.bench.layers import CONV, FILTERS, POOL, SINGLE, UNTUNED, Conv, Pool
from fastconv.bench.peers import PEERS
from fastconv.bench.timing import Contender
from fastconv.spec import unpool_spec

DTYPE = np.dtype(np.float32)
EPS = float(np.finfo(DTYPE).eps)
SEED = 20250101

# contenders of fastconv's beside its methods
PACKED, NHWC = "fastconv packed", "fastconv NHWC"

# plain loops run where one image is no more work than this, and on one image only
LOOPS_FLOPS = 1_000_000
# transforms that would cost this many times what the best method does are not measured
HOPELESS = 10
# and they may be off by more than a sum, as SciPy's may; so may what they are chosen for
TRANSFORMS = ("fft", "winograd")
TRANSFORM_SLACK = 16

CONV_OPS = {
    "forward": "conv2d",
    "input gradient": "conv2d_input",
    "weight gradient": "conv2d_weight",
}
POOL_OPS = {
    "max": "max_pool2d",
    "max, indices": "max_pool2d",
    "avg": "avg_pool2d",
    "max gradient": "max_pool2d_backward",
    "avg gradient": "avg_pool2d_backward",
}


def present():
    """{name: version} of the peers that can be measured."""
    return {name: peers.version(module) for module, (name, _) in PEERS.items() if find_spec(module)}


def missing():
    """Name and remedy of each peer that is not installed, or lacks something."""
    absent = [f"{name} ({how})" for module, (name, how) in PEERS.items() if not find_spec(module)]
    if find_spec("torch") and not peers.module("torch").has_compiler():
        absent.append("PyTorch compile (needs a C++ compiler)")
    if not find_spec("onnx") and (find_spec("onnxruntime") or find_spec("cv2")):
        absent.append("networks of ONNX Runtime and OpenCV (pip install onnx)")
    return absent


def uniform(rng, shape):
    """Values between -1 and 1, so that the largest magnitude is known to the tolerances."""
    return rng.uniform(-1, 1, shape).astype(DTYPE)


def double(*arrays):
    """The arrays in float64."""
    return [a.astype(np.float64) for a in arrays]


def loops_note(images):
    """What an extrapolated figure has to say."""
    return f"extrapolated from 1 of {images} images" if images > 1 else ""


class Problem(ABC):
    """A layer and an operation; subclasses say who can do it, and what is right.

    Attributes
    ----------
    family, layer, op, shape : str
    task : {"convolution", "pooling", "training", "inference"}
        The function of the peers' modules that makes their contenders.
    core : bool
        Whether it is measured when nothing else is asked for.
    flops, bytes : int
        Work and least traffic of one call; 0 where they are not counted.
    allocation : {"fresh", "out", "reused"}
        Whether fastconv's calls return a new array, are given one, or (layers) reuse their own.
    """

    flops = bytes = 0
    task: str

    def __init__(self, family, layer, op, shape, allocation="fresh", core=True):
        self.family, self.layer, self.op, self.shape = family, layer, op, shape
        self.allocation, self.core = allocation, core

    @abstractmethod
    def own_makers(self):
        """{name: function that makes the Contender} of fastconv's."""

    def baseline_makers(self):
        """The same of plain NumPy and plain loops."""
        return {}

    def peer_makers(self):
        """The same of the peers that are installed."""
        found = {}
        for module in PEERS:
            if find_spec(module):
                make_all = getattr(peers.module(module), self.task, None)
                found |= make_all(self) if make_all else {}
        return {name: partial(self.peer, name, make) for name, make in found.items()}

    def makers(self):
        """{name: function that makes the Contender} of all."""
        return self.own_makers() | self.peer_makers() | self.baseline_makers()

    def contenders(self, names):
        """The contenders of these names."""
        makers = self.makers()
        return [makers[name]() for name in names]

    def contender(self, name, kind, call, **more):
        """A contender checked against the problem's own reference."""
        given = {"expected": lambda: self.reference}
        given["allocation"] = self.allocation if kind == "fastconv" else "fresh"
        return Contender(name, kind, call, **{**given, **more})

    def peer(self, name, make):
        """A peer's contender."""
        made = make()
        return self.contender(
            name,
            "peer",
            made.call,
            read=made.read,
            context=made.context,
            expected=partial(self.loosened, made.slack),
        )

    def loosened(self, slack):
        """The reference, with this many times the error allowed."""
        return [(array, slack * off) for array, off in self.reference]

    def out(self, shape):
        """Keyword arguments of a fastconv call: an output, where it is to be given one."""
        return {"out": np.empty(shape, DTYPE)} if self.allocation == "out" else {}

    def native_rows(self, op, spec):
        """(name, registry row, whether it is what a plain call runs) of fastconv's compiled rows.

        The name of a row of the native backend is its method, another's is preceded by the
        backend's. Transforms are left out where others are far cheaper.
        """
        chosen = registry.choose(op, spec)
        native = registry.choose(op, spec, backend="native")
        for row in registry.implementations(op):
            if row.backend != "reference" and row.supports(spec) is None:
                if row.method == "fft" and float(row.cost(spec)) > HOPELESS * float(
                    native.cost(spec)
                ):
                    continue
                backend = "" if row.backend == "native" else f"{row.backend} "
                yield f"fastconv {backend}{row.method}", row, row is chosen


class ConvProblem(Problem):
    """One of a convolution's three operations."""

    task = "convolution"

    def __init__(self, layer, op, allocation="fresh", family="Convolution"):
        super().__init__(family, layer.name, op, str(layer), allocation, layer.core)
        self.conv, self.spec = layer, layer.spec(DTYPE)
        self.flops, self.bytes = self.spec.flops, self.spec.bytes
        self.options = layer.options

    @cached_property
    def data(self):
        """x, w, b, dy."""
        rng, spec = np.random.default_rng(SEED), self.spec
        shapes = (spec.input_shape, spec.weight_shape, (spec.K,), spec.output_shape)
        return [uniform(rng, shape) for shape in shapes]

    def numpy(self, loops, spec, x, w, b, dy):
        """The operation in plain NumPy."""
        function = getattr(baselines, CONV_OPS[self.op] + ("_loops" if loops else ""))
        arguments = {"forward": (x, w, b), "input gradient": (w, dy), "weight gradient": (x, dy)}
        return function(spec, *arguments[self.op])

    def expected(self, spec, x, w, b, dy):
        """[(result in float64, length of the sums x eps x largest magnitude, which is 1)]."""
        length = {
            "forward": spec.C // spec.groups * spec.R * spec.S + 1,
            "input gradient": spec.K // spec.groups * spec.R * spec.S,
            "weight gradient": spec.N * spec.P * spec.Q,
        }[self.op]
        return [(self.numpy(False, spec, *double(x, w, b, dy)), length * EPS)]

    @cached_property
    def reference(self):
        return self.expected(self.spec, *self.data)

    def fastconv(self, x, w, b, dy, **how):
        """The operation as a user of fastconv writes it; `how` is method, backend, layout, out."""
        call = partial(getattr(fc.grad, CONV_OPS[self.op], fc.conv2d), **how)
        if self.op == "forward":
            return lambda: call(x, w, b, *self.options)
        if self.op == "input gradient":
            return lambda: call(x.shape, w, dy, *self.options)
        return lambda: call(x, w.shape, dy, *self.options)

    def result_shape(self):
        x, w, _, dy = self.data
        return {"forward": dy, "input gradient": x, "weight gradient": w}[self.op].shape

    def is_filter(self):
        """Whether one kernel filters each channel of one image, without a bias."""
        return False

    def own_makers(self):
        makers = {}
        for name, row, auto in self.native_rows(CONV_OPS[self.op], self.spec):

            def make(name=name, row=row, auto=auto):
                out = self.out(self.result_shape())
                call = self.fastconv(*self.data, method=row.method, backend=row.backend, **out)
                method = row.method if row.backend == "native" else None
                slack = TRANSFORM_SLACK if row.method in TRANSFORMS else 1
                expected = partial(self.loosened, slack)
                return self.contender(
                    name, "fastconv", call, auto=auto, method=method, expected=expected
                )

            makers[name] = make
        if self.op == "forward":
            makers[PACKED] = self.packed
        makers[NHWC] = self.channels_last
        return makers

    def packed(self):
        """A call with a weight that was packed before."""
        x, w, b, dy = self.data
        packed = fc.pack_conv2d(w, x.shape, *self.options)
        call = self.fastconv(x, packed, b, dy, **self.out(self.result_shape()))
        expected = partial(self.loosened, TRANSFORM_SLACK)
        return self.contender(PACKED, "fastconv", call, expected=expected)

    def channels_last(self):
        """A call with images whose channels lie side by side, in and out."""
        x, w, b, dy = self.data
        x, dy = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (x, dy))
        result = {"forward": dy, "input gradient": x, "weight gradient": w}[self.op]
        call = self.fastconv(x, w, b, dy, layout="NHWC", **self.out(result.shape))

        def read(y):
            return (y if self.op == "weight gradient" else y.transpose(0, 3, 1, 2),)

        expected = partial(self.loosened, TRANSFORM_SLACK)
        return self.contender(NHWC, "fastconv", call, read=read, expected=expected)

    def baseline_makers(self):
        def matmul():
            call = partial(self.numpy, False, self.spec, *self.data)
            return self.contender("NumPy matmul", "baseline", call)

        makers = {"NumPy matmul": matmul}
        if self.flops <= LOOPS_FLOPS * self.spec.N and self.spec.groups == 1:
            makers["NumPy loops"] = partial(self.loops, "NumPy loops")
            makers["Python loops"] = partial(self.loops, "Python loops")
        return makers

    def loops(self, name):
        """Plain loops over the first image."""
        images = self.spec.N
        x, w, b, dy = self.data
        x, dy = x[:1], dy[:1]
        one = replace(self.conv, input=x.shape).spec(DTYPE)
        if name == "Python loops":
            call = self.fastconv(x, w, b, dy, backend="reference")
        else:
            call = partial(self.numpy, True, one, x, w, b, dy)
        return self.contender(
            name,
            "baseline",
            call,
            expected=lambda: self.expected(one, x, w, b, dy),
            share=1 / images,
            note=loops_note(images),
        )


class FilterProblem(ConvProblem):
    """An image, each of its channels filtered by the same kernel."""

    def __init__(self, layer, allocation="fresh"):
        super().__init__(layer, "forward", allocation, "Image filter")

    def is_filter(self):
        return True

    @cached_property
    def data(self):
        """x, the same kernel for every channel, no bias."""
        x, w, b, dy = ConvProblem.data.func(self)
        w[:] = w[0]
        b[:] = 0
        return [x, w, b, dy]


class PoolProblem(Problem):
    """Maximum or average pooling, forward or backward."""

    task = "pooling"

    def __init__(self, layer, op, allocation="fresh", family="Pooling"):
        super().__init__(family, layer.name, op, str(layer), allocation, layer.core)
        self.pool, self.spec = layer, layer.spec(DTYPE)
        self.flops, self.bytes = self.spec.flops, self.spec.bytes
        if op in ("max, indices", "max gradient"):
            self.bytes += 8 * prod(self.spec.output_shape)
        self.options = (layer.kernel, layer.stride, layer.padding)

    @cached_property
    def data(self):
        """x, dy, indices."""
        rng, spec = np.random.default_rng(SEED), self.spec
        x, dy = uniform(rng, spec.input_shape), uniform(rng, spec.output_shape)
        return x, dy, baselines.max_pool2d(spec, x)[1]

    def numpy(self, spec, x, dy, indices):
        """The operation in plain NumPy."""
        return {
            "max": lambda: baselines.max_pool2d_values(spec, x),
            "max, indices": lambda: baselines.max_pool2d(spec, x),
            "avg": lambda: baselines.avg_pool2d(spec, x),
            "max gradient": lambda: baselines.max_pool2d_backward(spec, dy, indices),
            "avg gradient": lambda: baselines.avg_pool2d_backward(spec, dy),
        }[self.op]

    def expected(self, spec, x, dy, indices):
        """A maximum is exact; sums are as in a convolution."""
        result = self.numpy(spec, *double(x, dy), indices)()
        if self.op == "max, indices":
            return [(array, 0.0) for array in result]
        return [(result, 0.0 if self.op == "max" else spec.R * spec.S * EPS)]

    @cached_property
    def reference(self):
        return self.expected(self.spec, *self.data)

    def fastconv(self, x, dy, indices, **how):
        """The operation as a user of fastconv writes it; `how` is backend, out."""
        size = x.shape
        return {
            "max": lambda: fc.max_pool2d(x, *self.options, **how),
            "max, indices": lambda: fc.max_pool2d(x, *self.options, return_indices=True, **how),
            "avg": lambda: fc.avg_pool2d(x, *self.options, **how),
            "max gradient": lambda: fc.grad.max_pool2d(dy, indices, size, **how),
            "avg gradient": lambda: fc.grad.avg_pool2d(dy, size, *self.options, **how),
        }[self.op]

    def read(self, result):
        """Arrays of a result, as `expected` has them."""
        return result if self.op == "max, indices" else (result,)

    def own_makers(self):
        makers = {}
        size = self.spec.input_shape if "gradient" in self.op else self.spec.output_shape
        for name, row, auto in self.native_rows(POOL_OPS[self.op], self.spec_of_op()):

            def make(name=name, row=row, auto=auto):
                call = self.fastconv(*self.data, backend=row.backend, **self.out(size))
                return self.contender(name, "fastconv", call, read=self.read, auto=auto)

            makers[name] = make
        return makers

    def baseline_makers(self):
        def plain():
            call = self.numpy(self.spec, *self.data)
            return self.contender("NumPy", "baseline", call, read=self.read)

        makers = {"NumPy": plain}
        if self.flops <= LOOPS_FLOPS * self.spec.N:
            makers["Python loops"] = self.loops
        return makers

    def spec_of_op(self):
        """What the registry is asked with."""
        if self.op == "max gradient":
            return unpool_spec(self.spec.input_shape, self.spec.output_shape, DTYPE)
        return self.spec

    def loops(self):
        """The reference backend's loops over the first image."""
        images = self.spec.N
        first = [a[:1] for a in self.data]
        one = Pool("", first[0].shape, *self.options).spec(DTYPE)
        return self.contender(
            "Python loops",
            "baseline",
            self.fastconv(*first, backend="reference"),
            expected=lambda: self.expected(one, *first),
            read=self.read,
            share=1 / images,
            note=loops_note(images),
        )


class LeNetProblem(Problem):
    """The chapter's LeNet on real images: everybody starts from the same weights and batch."""

    def __init__(self, op, pool, images, family, layer):
        shape = f"({images}, 1, 28, 28), sigmoid, {pool} pooling"
        super().__init__(family, layer, op, shape, "reused")
        self.pool, self.images = pool, images
        self.specs = self.specs_of(images)

    @staticmethod
    def specs_of(images):
        """(convolution, pooling) of both stages."""
        convs = (
            Conv("", (images, 1, 28, 28), (6, 1, 5, 5), padding=2),
            Conv("", (images, 6, 14, 14), (16, 6, 5, 5)),
        )
        pools = Pool("", (images, 6, 28, 28), 2, 2), Pool("", (images, 16, 10, 10), 2, 2)
        return [(c.spec(DTYPE), p.spec(DTYPE)) for c, p in zip(convs, pools, strict=True)]

    @cached_property
    def data(self):
        """Images and labels, again from the first where there are not enough.

        With noise between the sample's few grey levels, which would make many ties in maxima.
        """
        train, _ = datasets.embedded_sample()
        inputs = train.inputs()
        noise = np.random.default_rng(SEED).random(inputs.shape, np.float32) / 8
        inputs = np.where(inputs > 0, inputs - noise, 0)
        which = np.arange(self.images) % len(train)
        return inputs[which], train.labels[which].astype(np.int64)

    def net(self):
        """fastconv's network, always with the same weights."""
        return nn.lenet("sigmoid", self.pool, seed=SEED)


class StepProblem(LeNetProblem):
    """A training step: forward, cross-entropy, backward, plain SGD."""

    task = "training"
    LEARNING_RATE = 0.9

    def __init__(self, pool, images=256):
        super().__init__(
            "batch 256" if images == 256 else f"batch {images}",
            pool, images, "Training step", f"LeNet, {pool} pooling",
        )  # fmt: skip

    @cached_property
    def reference(self):
        """Loss and gradients of the first step in float64.

        The loss within 1e-5 of its value, each gradient within 1e-4 of its largest element: some
        ten times what PyTorch's float32 is off by. With maximum pooling some window of 400,000 has
        two pixels that are equal in float32 and not in float64, and its gradient goes to the other
        one: measured, 0.05 of what an image contributes.
        """
        x, labels = self.data
        weights = double(*self.net().state_dict().values())
        loss, gradients = baselines.lenet_gradients(
            weights, x.astype(np.float64), labels, self.pool, self.specs
        )
        share = 1e-4 + (0.1 / self.images if self.pool == "max" else 0)
        return [(loss, 1e-5 * loss), *((g, share * np.abs(g).max()) for g in gradients)]

    def fastconv(self):
        net, (x, labels) = self.net(), self.data
        loss, optimizer = nn.CrossEntropyLoss(), nn.SGD(net.parameters(), lr=self.LEARNING_RATE)
        net.train()

        def step():
            optimizer.zero_grad()
            value = loss(net(x), labels)
            net.backward(loss.backward(), need_input_grad=False)
            optimizer.step()
            return value

        def read(value):
            return [value, *(p.grad for p in net.parameters())]

        return self.contender("fastconv.nn", "fastconv", step, read=read, auto=True)

    def numpy(self):
        weights, (x, labels) = list(self.net().state_dict().values()), self.data

        def step():
            loss, gradients = baselines.lenet_gradients(weights, x, labels, self.pool, self.specs)
            for w, g in zip(weights, gradients, strict=True):
                w -= self.LEARNING_RATE * g
            return loss, *gradients

        return self.contender("NumPy matmul", "baseline", step, read=lambda result: result)

    def own_makers(self):
        return {"fastconv.nn": self.fastconv}

    def baseline_makers(self):
        return {"NumPy matmul": self.numpy}


class InferenceProblem(LeNetProblem):
    """The scores of images, in batches."""

    task = "inference"
    BATCH = 256

    def __init__(self, pool, images=1):
        family = "One image" if images == 1 else f"{images:,} images"
        super().__init__("inference", pool, images, family, f"LeNet, {pool} pooling")

    def batches(self):
        """The images, a batch at a time."""
        x = self.data[0]
        return [x[i : i + self.BATCH] for i in range(0, len(x), self.BATCH)]

    @cached_property
    def reference(self):
        """Scores in float64; the longest sum has 400 terms, the largest score is the magnitude."""
        weights = double(*self.net().state_dict().values())
        scores = np.concatenate(
            [
                baselines.lenet_forward(weights, *double(x), self.pool, self.specs_of(len(x)))[0]
                for x in self.batches()
            ]
        )
        return [(scores, 400 * EPS * np.abs(scores).max())]

    def fastconv(self):
        net, batches = self.net().eval(), self.batches()
        return self.contender(
            "fastconv.nn",
            "fastconv",
            lambda: [net(x) for x in batches],
            read=lambda scores: (np.concatenate(scores),),
            auto=True,
        )

    def own_makers(self):
        return {"fastconv.nn": self.fastconv}


class SingleImage:
    """Call overhead: no method is named, with a fresh output and with a given one."""

    def own_makers(self):
        own = {}
        for name, allocation in (("fastconv", "fresh"), ("fastconv out=", "out")):

            def make(name=name, allocation=allocation):
                self.allocation = allocation
                call = self.fastconv(*self.data, **self.out(self.spec.output_shape))
                return self.contender(name, "fastconv", call, auto=allocation == "fresh")

            own[name] = make
        return own


class SingleConv(SingleImage, ConvProblem):
    """A convolution of one image."""

    def own_makers(self):
        return super().own_makers() | {PACKED: self.packed}


class SinglePool(SingleImage, PoolProblem):
    """A pooling of one image."""


def convolutions(allocation="fresh"):
    """Problems of bench/test_conv.py."""
    return [ConvProblem(layer, op, allocation) for layer in CONV for op in CONV_OPS]


def untuned(allocation="fresh"):
    """Problems of bench/test_untuned.py."""
    family = "Untuned layer"
    return [ConvProblem(layer, op, allocation, family) for layer in UNTUNED for op in CONV_OPS]


def filters(allocation="fresh"):
    """Problems of bench/test_filter.py."""
    return [FilterProblem(layer, allocation) for layer in FILTERS]


def poolings(allocation="fresh"):
    """Problems of bench/test_pool.py."""
    return [PoolProblem(layer, op, allocation) for layer in POOL for op in POOL_OPS]


def training_steps(allocation="fresh"):
    """Problems of bench/test_training_step.py."""
    return [StepProblem("avg"), StepProblem("max")]


def inferences(allocation="fresh"):
    """Problems of bench/test_inference.py."""
    return [InferenceProblem("avg", 10_000), InferenceProblem("max", 10_000)]


def single_images(allocation="fresh"):
    """Problems of bench/test_overhead.py."""
    found = []
    for layer in SINGLE:
        if isinstance(layer, Conv):
            found.append(SingleConv(layer, "forward", family="One image"))
        else:
            found += [SinglePool(layer, op, family="One image") for op in ("max", "avg")]
    return [*found, InferenceProblem("avg"), InferenceProblem("max")]


def cases(problems):
    """(layer, op, contender) of each measurement."""
    return [(problem.layer, problem.op, name) for problem in problems for name in problem.makers()]
