"""The native backend: Cython drivers over the C kernels of csrc/.

`ROWS` lists what it offers; what a call would cost is counted in `_costs.py`.
"""

import os
from functools import lru_cache
from importlib import import_module

import numpy as np

from fastconv import config
from fastconv._threads import limited, usable
from fastconv.backends.native import _costs, _winograd
from fastconv.registry import Cost, Impl


def _drivers():
    """The extension modules, loaded with OpenMP threads that soon sleep between calls.

    libgomp reads its settings when it is loaded. By default its threads spin for milliseconds at
    the end of a call, against BLAS's threads or another process: a training step on two busy cores
    took ten times as long. Threads that sleep at once take as long to wake as a small layer does:
    these spin for some tens of microseconds, in which the next layer's call comes.
    """
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    unset = not any(name in os.environ for name in names)
    if unset:
        os.environ["GOMP_SPINCOUNT"] = "4000"
    try:
        return [import_module(f"{__name__}.{name}") for name in ("_conv", "_dispatch", "_planes")]
    finally:
        if unset:
            del os.environ["GOMP_SPINCOUNT"]


_conv, _dispatch, _planes = _drivers()
available_isas, compiler, isa_names = (
    _dispatch.available_isas,
    _dispatch.compiler,
    _dispatch.isa_names,
)

__all__ = ["ROWS", "available_isas", "compiler", "isa_names", "openmp_runtime", "tiles"]

# numbers that the drivers know the activations by
ACTIVATIONS = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3}

ISA_INDEX = {name: i for i, name in enumerate(isa_names())}
BEST_ISA = available_isas()[0]


def openmp_runtime():
    """OpenMP support compiled into the drivers, e.g. ``'OpenMP 201511'``, or ``'none'``."""
    version = _dispatch.openmp_version()
    return f"OpenMP {version}" if version else "none"


def tiles(isa=None):
    """Register-tile sizes of an ISA (by default the one in use).

    Parameters
    ----------
    isa : str, optional
        A name out of `isa_names()`.

    Returns
    -------
    dict
        For "float32" and "float64": lanes of a vector, and how many of them this CPU's units take
        at once (`path`); rows `m` (output channels) and vectors `v`
        (output pixels) of the register tile with pixels in the lanes; `panel_v` vectors of the one
        with filters there; rows and vectors of that of inner products, `dot_m` and `dot_v`; whether
        there is a kernel for 5x5 taps in `pairs` of rows.

    Examples
    --------
    >>> tiles("portable")["float32"]["lanes"]
    4
    """
    return _dispatch.tiles(ISA_INDEX[isa or config.current().isa or BEST_ISA])


def _isa():
    """Index of the ISA for the call at hand."""
    return ISA_INDEX[config.current().isa or BEST_ISA]


def _run(driver, *arguments):
    """A driver that adds up products, with the ISA and the threads of the call at hand.

    Unless `using(flush_denormals=False)` says otherwise, denormals are zeros in it.
    """
    settings = config.current()
    isa, threads = ISA_INDEX[settings.isa or BEST_ISA], usable(settings.num_threads)
    return _dispatch.call(driver, settings.flush_denormals, *arguments, isa, threads)


def _run_exactly(driver, *arguments):
    """A driver of another kind: it takes denormals as they are."""
    settings = config.current()
    driver(*arguments, ISA_INDEX[settings.isa or BEST_ISA], usable(settings.num_threads))


def _channels_last(array):
    """Whether a pixel's channels are neighbours, as in a view of NHWC."""
    return array.shape[1] > 1 and array.strides[1] == array.itemsize


def _form_for(op, method, spec, channels_last, packed=False):
    """The cheapest form, but panels where channels are neighbours in the array that is read.

    Panels read such pixels where they lie, rows and patches one by one. They are worth it unless
    the channels that are made leave most lanes of a group empty.
    """
    form = _costs.form_of(op, method, spec, packed)
    by_row = form in (_costs.FORMS["rows"], _costs.FORMS["patches"]) and method != "im2col"
    if not by_row or not channels_last:
        return form
    made = spec.K if op == "conv2d" else spec.C
    few = 2 * made // spec.groups < tiles()[spec.dtype.name]["lanes"]
    return form if few else _costs.FORMS["panels"]


def _form_and_packed(method, spec, input, packed):
    """The form of a conv2d, and its packed weight if that is in this form."""
    form = _form_for("conv2d", method, spec, _channels_last(input), packed is not None)
    return form, packed if packed is not None and packed.form == form else None


def _conv2d(method):
    def run(spec, input, weight, bias, out, activation, packed=None):
        form, packed = _form_and_packed(method, spec, input, packed)
        _run(
            _conv.conv2d,
            spec.geometry,
            input,
            weight,
            packed,
            bias,
            out,
            ACTIVATIONS[activation],
            form,
        )

    return run


def _conv2d_input(method):
    def run(spec, grad_output, weight, out):
        form = _form_for("conv2d_input", method, spec, _channels_last(grad_output))
        _run(_conv.conv2d_input, spec.geometry, grad_output, weight, out, form)

    return run


def _conv2d_weight(method):
    def run(spec, input, grad_output, out):
        form = _costs.form_of("conv2d_weight", method, spec)
        _run(_conv.conv2d_weight, spec.geometry, input, grad_output, out, form)

    return run


def _packed_form(method, spec, layout):
    return _form_for("conv2d", method, spec, layout == "NHWC" and spec.C > 1, True)


def _pack(method):
    def pack(spec, weight, layout):
        form = _packed_form(method, spec, layout)
        if form == _costs.FORMS["lanes"] or form == _costs.FORMS["patches"]:
            return None  # many small images: packing is next to nothing; weights read as they lie
        return _conv.pack_weight(spec.geometry, weight, form, _isa())

    return pack


def _in_force(settings):
    """What a prepared call keeps of them."""
    return settings.flush_denormals, ISA_INDEX[settings.isa or BEST_ISA], settings.num_threads


def _prepare(method):
    def prepare(spec, settings, input, out, layout, weight, packed, activation):
        if input.ndim != 4:
            return None
        planes = input.transpose(0, 3, 1, 2) if layout == "NHWC" else input
        form, packed = _form_and_packed(method, spec, planes, packed)
        how = layout == "NHWC", ACTIVATIONS[activation], form, *_in_force(settings)
        return _conv.prepare(spec.geometry, input, weight, packed, out, *how)

    return prepare


def _packing_key(method):
    def key(spec, layout):
        return _isa(), _packed_form(method, spec, layout)

    return key


def _depthwise(spec, input, weight, bias, out, activation, by_rows=False):
    number = ACTIVATIONS[activation]
    _run(_conv.depthwise, spec.geometry, input, weight, bias, out, number, by_rows)


def _preparing_planes(by_rows):
    def prepare(spec, settings, input, out, layout, weight, packed, activation):
        if input.ndim != 4:
            return None
        how = layout == "NHWC", ACTIVATIONS[activation], by_rows, *_in_force(settings)
        return _conv.prepare_depthwise(spec.geometry, input, weight, out, *how)

    return prepare


_prepare_depthwise = _preparing_planes(False)


def _depthwise_input(spec, grad_output, weight, out, by_rows=False):
    _run(_conv.depthwise_input, spec.geometry, grad_output, weight, out, by_rows)


def _depthwise_weight(spec, input, grad_output, out):
    _run(_conv.depthwise_weight, spec.geometry, input, grad_output, out)


def _one_channel(spec):
    """Why a convolution does not go plane by plane."""
    if spec.C != spec.groups:
        return f"a group has {spec.C // spec.groups} input channels, not 1"
    return None


def _one_filter(spec):
    """Why its gradient with respect to the input does not."""
    if spec.K != spec.groups:
        return f"a channel has {spec.K // spec.groups} filters, not 1"
    if spec.dilation != (1, 1) and spec.stride != (1, 1):
        return f"the stride is {spec.stride} and the dilation {spec.dilation}: one has to be 1"
    return _one_channel(spec)


def _everything(spec):
    return None


def _one_by_one(spec):
    if (spec.R, spec.S) != (1, 1):
        return f"the kernel is {spec.R}x{spec.S}, not 1x1"
    if any(spec.padding):
        return f"the padding is {spec.padding}, not 0"
    return None


def _unit(spec):
    return 1.0


_DRIVERS = {"conv2d": _conv2d, "conv2d_input": _conv2d_input, "conv2d_weight": _conv2d_weight}

_CONV = tuple(
    Impl(
        op,
        method,
        "native",
        _one_by_one if method == "pointwise" else _everything,
        _costs.cost_of(op, method),
        driver(method),
        pack=_pack(method) if op == "conv2d" else None,
        pack_cost=_costs.pack_cost_of(op, method),
        packing_key=_packing_key(method),
        prepare=_prepare(method) if op == "conv2d" else None,
    )
    # where costs are equal the first wins: a 1x1 kernel goes to "pointwise"
    for method in ("pointwise", "im2col", "direct")
    for op, driver in _DRIVERS.items()
)


_DEPTHWISE = (
    Impl(
        "conv2d",
        "depthwise",
        "native",
        _one_channel,
        _costs.depthwise("conv2d"),
        _depthwise,
        prepare=_prepare_depthwise,
    ),
    Impl(
        "conv2d_input",
        "depthwise",
        "native",
        _one_filter,
        _costs.depthwise("conv2d_input"),
        _depthwise_input,
    ),
    Impl(
        "conv2d_weight",
        "depthwise",
        "native",
        _one_channel,
        _costs.depthwise("conv2d_weight"),
        _depthwise_weight,
    ),
)


def _left_to_direct(spec):
    return "leaves NaN, infinities and whole numbers too large to round to to direct"


def _by_transforms(axes, op):
    """The row of a convolution by transforms; _fft.py is imported when it is first asked for."""

    def run_on(spec, x, w, bias, out):
        fft = import_module(f"{__name__}._fft")
        threads = limited(config.current().num_threads)  # Python's threads: a fork does no harm
        return fft.correlate(getattr(fft, axes)(spec), spec.groups, x, w, bias, out, threads)

    def forward(spec, input, weight, bias, out, activation):
        if not run_on(spec, input, weight, bias, out):
            _conv2d("direct")(spec, input, weight, bias, out, activation)
        elif activation is not None:
            _activation(activation)(spec, out, out)

    def backward(spec, grad_output, weight, out):
        by_group = weight.reshape(spec.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        turned = by_group.reshape(spec.C, -1, spec.R, spec.S)[:, :, ::-1, ::-1]
        if not run_on(spec, grad_output, turned, None, out):
            _conv2d_input("direct")(spec, grad_output, weight, out)

    def cost(spec):
        fft = import_module(f"{__name__}._fft")
        taken, made = (spec.C, spec.K) if op == "conv2d" else (spec.K, spec.C)
        steps, products = fft.work(spec, getattr(fft, axes)(spec), taken, made)
        return _costs.by_transforms(spec, steps, products)

    run = forward if op == "conv2d" else backward
    return Impl(op, "fft", "native", _everything, cost, run, _left_to_direct)


_FFT = (_by_transforms("forward_axes", "conv2d"), _by_transforms("input_axes", "conv2d_input"))


@lru_cache(maxsize=4096)
def _tile_of(op, spec, setting, isa):
    return _winograd.choose_tile(op, spec, setting, tiles(isa)[spec.dtype.name])


def _winograd_tile(op, spec, settings=None):
    """m of the m x m outputs that a tile of Winograd's algorithm makes."""
    settings = settings or config.current()
    return _tile_of(op, spec, settings.winograd, settings.isa or BEST_ISA)


def _no_winograd(op):
    def reason(spec):
        return _winograd.reason(op, spec, config.current().winograd, tiles()[spec.dtype.name])

    return reason


def _down_rows(run, x, out):
    """Calls run(x, out) with rows that lie together, so that the strides change no bits.

    But where channels do so in both arrays (NHWC): there the kernels with channels in the lanes are
    the faster ones.
    """
    if _channels_last(x) and _channels_last(out):
        run(x, out)
        return

    def lies(a):
        return a.shape[3] == 1 or a.strides[3] == a.itemsize

    result = out if lies(out) else np.empty(out.shape, out.dtype)
    run(x if lies(x) else np.ascontiguousarray(x), result)
    if result is not out:
        out[...] = result


# --- planes with filters of their own: down the rows


def _rows_conv2d(spec, input, weight, bias, out, activation, packed=None):
    _down_rows(lambda x, y: _depthwise(spec, x, weight, bias, y, activation, True), input, out)


def _rows_input(spec, grad_output, weight, out):
    _down_rows(lambda x, y: _depthwise_input(spec, x, weight, y, True), grad_output, out)


def _rows_cost(op):
    def cost(spec):
        m, tile = _winograd.ROWS[spec.dtype.itemsize], tiles()[spec.dtype.name]
        if _winograd.in_pairs(spec):
            return Cost(*_winograd.work_in_pairs(op, spec, tile), form="F(2, 2) of pairs of rows")
        work = _winograd.work_by_rows(op, spec, tile, _costs.plane_tap)
        return Cost(*work, form=f"F({m}, {m}) down the rows")

    return cost


def _rows_note(spec):
    m = 2 if _winograd.in_pairs(spec) else _winograd.ROWS[spec.dtype.itemsize]
    return f"works in groups of {m} rows: errors up to {_winograd.ERROR_ROWS} times a direct sum's"


# --- 3x3 kernels: tile by tile


def _winograd_conv2d(spec, input, weight, bias, out, activation, packed=None):
    m = _winograd_tile("conv2d", spec)
    number = ACTIVATIONS[activation]
    _run(_conv.winograd, spec.geometry, input, weight, packed, bias, out, number, m, False)


def _prepare_winograd(spec, settings, input, out, layout, weight, packed, activation):
    if input.ndim != 4:
        return None
    m = _winograd_tile("conv2d", spec, settings)
    how = layout == "NHWC", ACTIVATIONS[activation], m, *_in_force(settings)
    return _conv.prepare_winograd(spec.geometry, input, weight, packed, out, *how)


def _winograd_input(spec, grad_output, weight, out):
    m = _winograd_tile("conv2d_input", spec)
    _run(_conv.winograd, spec.geometry, grad_output, weight, None, None, out, 0, m, True)


def _winograd_pack(spec, weight, layout):
    """The weight's transforms, for inputs of any size that get the same tile and stride."""
    m = _winograd_tile("conv2d", spec)
    return _run(_conv.winograd_pack, spec.geometry, weight, m, False)


def _winograd_packing_key(spec, layout):
    return _isa(), _winograd_tile("conv2d", spec), spec.stride


def _winograd_cost(op):
    def cost(spec):
        m = _winograd_tile(op, spec)
        form = f"F({m}, 3)" if spec.stride == (1, 1) else f"F({m}, 2) of four phases"
        cost = Cost(*_winograd.work(op, spec, m, tiles()[spec.dtype.name]), form)
        if op == "conv2d":
            return cost
        # its weights are never packed beforehand
        return Cost(cost.flops, cost.rate, cost.moved + cost.packing, 0.0, cost.form)

    return cost


def _winograd_pack_cost(spec):
    m = _winograd_tile("conv2d", spec)
    return _winograd.work("conv2d", spec, m, tiles()[spec.dtype.name])[3]


def _winograd_note(op):
    def note(spec):
        m = _winograd_tile(op, spec)
        return f"works in tiles of {m}x{m}: errors up to {_winograd.ERROR[m]} times a direct sum's"

    return note


def _either(down_rows, by_tiles):
    """A function of a spec for planes, which may be a constant, or another for 3x3 kernels."""

    def chosen(spec, *arguments, **named):
        if not _winograd.by_rows(spec):
            return by_tiles(spec, *arguments, **named)
        return down_rows(spec, *arguments, **named) if callable(down_rows) else down_rows

    return chosen


_WINOGRAD = (
    Impl(
        "conv2d",
        "winograd",
        "native",
        _no_winograd("conv2d"),
        _either(_rows_cost("conv2d"), _winograd_cost("conv2d")),
        _either(_rows_conv2d, _winograd_conv2d),
        _either(_rows_note, _winograd_note("conv2d")),
        # transforms of rows of weights take next to no time
        _either(None, _winograd_pack),
        _either(0.0, _winograd_pack_cost),
        _either(None, _winograd_packing_key),
        whole=False,
        prepare=_either(_preparing_planes(True), _prepare_winograd),
    ),
    Impl(
        "conv2d_input",
        "winograd",
        "native",
        _no_winograd("conv2d_input"),
        _either(_rows_cost("conv2d_input"), _winograd_cost("conv2d_input")),
        _either(_rows_input, _winograd_input),
        _either(_rows_note, _winograd_note("conv2d_input")),
        whole=False,
    ),
)


def _extreme_pool2d(minimum):
    def run(spec, input, out, indices):
        _run_exactly(_planes.extreme_pool2d, minimum, spec.geometry, input, out, indices)

    return run


def _max_pool2d_backward(spec, grad_output, indices, out):
    _run_exactly(_planes.max_pool2d_backward, grad_output, indices, out)


def _avg_pool2d(spec, input, out):
    _run(
        _planes.avg_pool2d,
        spec.geometry,
        spec.row_counts,
        spec.col_counts,
        spec.divisor_override,
        input,
        out,
    )


def _avg_pool2d_backward(spec, grad_output, out):
    if spec.stride == (1, 1) and (
        spec.divisor_override is not None
        or len(set(spec.row_counts)) == len(set(spec.col_counts)) == 1
    ):
        # a pixel's gradient is the mean over the windows that hold it: as many beside each other
        top, left = spec.R - 1 - spec.padding[0], spec.S - 1 - spec.padding[2]
        _run(
            _planes.avg_pool2d,
            (spec.N, spec.C, spec.P, spec.Q, spec.R, spec.S, 1, 1, top, left, 1, 1, spec.H, spec.W),
            spec.row_counts[:1] * spec.H,
            spec.col_counts[:1] * spec.W,
            spec.divisor_override,
            grad_output,
            out,
        )
        return
    _run(
        _planes.avg_pool2d_backward,
        spec.geometry,
        spec.row_counts,
        spec.col_counts,
        spec.divisor_override,
        grad_output,
        out,
    )


def _prepare_pool(kind):
    def prepare(spec, settings, input, out, layout):
        return _planes.prepare(
            kind,
            spec.geometry,
            spec.row_counts,
            spec.col_counts,
            spec.divisor_override,
            input,
            out,
            layout == "NHWC",
            kind == 2 and settings.flush_denormals,
            ISA_INDEX[settings.isa or BEST_ISA],
            settings.num_threads,
        )

    return prepare


# numbers that the driver knows them by
_POOL_KINDS = {"max_pool2d": 0, "min_pool2d": 1, "avg_pool2d": 2}


def _soft_windows(spec, *arrays):
    """(geometry, arrays) that fill the lanes also where each plane is one window."""
    geometry = spec.row_geometry
    if geometry is None or not all(a.flags.c_contiguous for a in arrays):
        return spec.geometry, *arrays
    pixels = [a.shape[2] * a.shape[3] for a in arrays]
    rows = (a.reshape(spec.N, 1, 1, spec.C * n) for a, n in zip(arrays, pixels, strict=True))
    return geometry, *rows


def _softmax_pool2d(spec, input, out):
    geometry, x, y = _soft_windows(spec, input, out)
    _run(_planes.softmax_pool2d, geometry, x, spec.beta, y)


def _softmax_pool2d_backward(spec, grad_output, input, out):
    geometry, dy, x, dx = _soft_windows(spec, grad_output, input, out)
    _run(_planes.softmax_pool2d_backward, geometry, dy, x, spec.beta, dx)


def _unfold(spec, input, out):
    _run_exactly(_planes.unfold, spec.geometry, input, out)


def _fold(spec, input, out):
    _run_exactly(_planes.fold, spec.geometry, input, out)


def _channel_sum(spec, grad_output, out):
    _run_exactly(_planes.channel_sum, grad_output, out)


def _activation(kind):
    def run(spec, input, out):
        _run_exactly(_planes.activation, kind, input, out)

    return run


def _prepare_activation(kind):
    def prepare(spec, settings):
        return _planes.Activation(kind, ISA_INDEX[settings.isa or BEST_ISA])

    return prepare


def _activation_backward(kind):
    def run(spec, grad_output, output, out):
        _run_exactly(_planes.activation_backward, kind, grad_output, output, out)

    return run


_PREPARED = {op: _prepare_pool(kind) for op, kind in _POOL_KINDS.items()}
_PREPARED |= {op: _prepare_activation(op) for op in ("relu", "sigmoid", "tanh")}
_PLANES = tuple(
    Impl(
        op,
        "direct",
        "native",
        _everything,
        _unit,
        run,
        prepare=_PREPARED.get(op),
    )
    for op, run in (
        ("conv2d_bias", _channel_sum),
        ("max_pool2d", _extreme_pool2d(False)),
        ("min_pool2d", _extreme_pool2d(True)),
        ("max_pool2d_backward", _max_pool2d_backward),
        ("avg_pool2d", _avg_pool2d),
        ("avg_pool2d_backward", _avg_pool2d_backward),
        ("softmax_pool2d", _softmax_pool2d),
        ("softmax_pool2d_backward", _softmax_pool2d_backward),
        ("unfold", _unfold),
        ("fold", _fold),
        *((kind, _activation(kind)) for kind in ("relu", "sigmoid", "tanh")),
        *((f"{kind}_backward", _activation_backward(kind)) for kind in ("relu", "sigmoid", "tanh")),
    )
)

POOLS = {"avg": 0, "max": 1}


def _block_reason(spec):
    size = _conv.block_size(spec.conv.geometry, spec.conv.dtype.itemsize, _isa())
    if isinstance(size, str):
        return size
    return None if 0 not in spec.output_shape else "the output is empty"


def block_size(spec):
    """Elements that `conv2d_block` keeps for its gradients."""
    return _conv.block_size(spec.conv.geometry, spec.conv.dtype.itemsize, _isa())


def _block(spec, input, weight, bias, kept, out):
    _run(
        _conv.block,
        spec.conv.geometry,
        input,
        weight,
        bias,
        ACTIVATIONS[spec.activation],
        POOLS[spec.pool],
        *spec.window,
        kept,
        out,
    )


def _block_gradients(spec, input, weight, kept, grad_output, grad_input, grad_weight, grad_bias):
    _run(
        _conv.block_gradients,
        spec.conv.geometry,
        input,
        weight,
        kept,
        grad_output,
        ACTIVATIONS[spec.activation],
        POOLS[spec.pool],
        *spec.window,
        grad_input,
        grad_weight,
        grad_bias,
    )


# what a block keeps depends on the ISA's lanes: both rows are for nn, which calls them in one go
_BLOCKS = tuple(
    Impl(op, "direct", "native", _block_reason, _unit, run)
    for op, run in (
        ("conv2d_block", _block),
        ("conv2d_block_size", block_size),
        ("conv2d_block_backward", _block_gradients),
    )
)

ROWS = _CONV + _DEPTHWISE + _WINOGRAD + _FFT + _PLANES + _BLOCKS
