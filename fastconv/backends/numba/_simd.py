"""Vectors for Numba kernels: what LLVM's vectoriser would have to find by itself.

Numba cannot promise LLVM that two arrays do not overlap, and short rows with every second element
are hard to vectorise. Here each operation is one LLVM instruction on a vector, on any machine.
Nothing is checked: an index is an element of a flat array, and counts from its start.

All functions are for use in compiled code. A vector has 64 bytes with AVX-512, else 32: 16 or 8
lanes of float32, half as many of float64. Vectors of int64 and of truth values have as many lanes
as those of the array that they go with.
"""

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.extending import intrinsic, models, register_model

_BYTES = 64 if get_host_cpu_features().get("avx512f") else 32


class Vector(types.Type):
    """`lanes` values of the Numba type `scalar`."""

    def __init__(self, scalar, lanes):
        self.scalar, self.lanes = scalar, lanes
        super().__init__(name=f"Vector({scalar}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        scalar = fe_type.scalar
        is_bool = isinstance(scalar, types.Boolean)
        element = ir.IntType(1) if is_bool else dmm.lookup(scalar).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _lanes(array):
    return _BYTES // (array.dtype.bitwidth // 8)


def _constant(llvm_type, values):
    return ir.Constant(llvm_type, list(values))


def _splat(builder, value, lanes):
    vector = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), 0))
    places = _constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(vector, vector, places)


def _address(context, builder, array_type, array, index, vector):
    data = context.make_array(array_type)(context, builder, array).data
    pointer = builder.gep(data, [index])
    return builder.bitcast(pointer, context.get_value_type(vector).as_pointer())


@intrinsic
def count(typingctx, array):
    """Number of lanes of a vector of `array`."""
    lanes = _lanes(array)

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.IntType(64), lanes)

    return types.int64(array), codegen


def _loading(array, lanes):
    vector = Vector(array.dtype, lanes)
    align = array.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        pointer = _address(context, builder, array, *args[:2], vector)
        return builder.load(pointer, align=align)

    return vector, codegen


@intrinsic
def load(typingctx, array, index):
    """Elements index, index + 1, .. of an array."""
    vector, codegen = _loading(array, _lanes(array))
    return vector(array, types.int64), codegen


@intrinsic
def load_wide(typingctx, array, index, like):
    """Elements of an int64 array, as many as a vector of the array `like` has."""
    vector, codegen = _loading(array, _lanes(like))
    return vector(array, types.int64, like), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Elements index, index + 1, .. of the array become the vector."""
    align = array.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        pointer = _address(context, builder, signature.args[0], args[0], args[1], vector)
        builder.store(args[2], pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic
def splat(typingctx, value, like):
    """`value` in every lane of a vector of the array `like`."""
    vector = Vector(like.dtype, _lanes(like))

    def codegen(context, builder, signature, args):
        scalar = context.cast(builder, args[0], signature.args[0], vector.scalar)
        return _splat(builder, scalar, vector.lanes)

    return vector(value, like), codegen


@intrinsic
def splat_wide(typingctx, value, like):
    """An int64 in as many lanes as a vector of the array `like` has."""
    vector = Vector(types.int64, _lanes(like))

    def codegen(context, builder, signature, args):
        return _splat(builder, args[0], vector.lanes)

    return vector(types.int64, like), codegen


@intrinsic
def first(typingctx, like):
    """0, 1, 2, .. as int64, in as many lanes as a vector of the array `like` has."""
    vector = Vector(types.int64, _lanes(like))

    def codegen(context, builder, signature, args):
        return _constant(context.get_value_type(vector), range(vector.lanes))

    return vector(like), codegen


def _binary(name, doc, floating, integer=None, result=None):
    """An intrinsic of two vectors of one type; the arguments are names of builder methods."""

    def operation(typingctx, a, b):
        if not (isinstance(a, Vector) and a == b):
            return None
        made = a if result is None else Vector(result, a.lanes)

        def codegen(context, builder, signature, args):
            method = floating if isinstance(a.scalar, types.Float) else integer
            return method(builder, *args)

        return made(a, b), codegen

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    operation.__module__ = __name__
    return intrinsic(operation)


_B = ir.IRBuilder

add = _binary("add", "a + b.", _B.fadd, _B.add)
subtract = _binary("subtract", "a - b.", _B.fsub, _B.sub)
multiply = _binary("multiply", "a * b.", _B.fmul, _B.mul)
divide = _binary("divide", "a / b.", _B.fdiv)
either = _binary("either", "a | b.", None, _B.or_)
both = _binary("both", "a & b.", None, _B.and_)
xor = _binary("xor", "a ^ b.", None, _B.xor)
shift_left = _binary("shift_left", "a << b.", None, _B.shl)


def _wins(beats):
    def method(builder, value, best):
        nan = builder.fcmp_unordered("uno", value, value)
        return builder.or_(builder.fcmp_ordered(beats, value, best), nan)

    return method


def _extreme(beats):
    def method(builder, a, b):
        best = builder.select(builder.fcmp_ordered(beats, a, b), a, b)
        # a sum is NaN where one of the two is: a masked addition, cheaper than joining two masks
        return builder.select(builder.fcmp_unordered("uno", a, b), builder.fadd(a, b), best)

    return method


maximum = _binary("maximum", "The larger one; NaN where there is one.", _extreme(">"))
minimum = _binary("minimum", "The smaller one; NaN where there is one.", _extreme("<"))
wins = _binary("wins", "Where a > b or a is NaN.", _wins(">"), result=types.boolean)
undercuts = _binary("undercuts", "Where a < b or a is NaN.", _wins("<"), result=types.boolean)
greater = _binary(
    "greater",
    "Where a > b.",
    lambda builder, a, b: builder.fcmp_ordered(">", a, b),
    lambda builder, a, b: builder.icmp_signed(">", a, b),
    types.boolean,
)
equal = _binary(
    "equal",
    "Where a = b.",
    lambda builder, a, b: builder.fcmp_ordered("==", a, b),
    lambda builder, a, b: builder.icmp_signed("==", a, b),
    types.boolean,
)


def _shuffle(places):
    def method(builder, a, b):
        lanes = a.type.count
        chosen = _constant(ir.VectorType(ir.IntType(32), lanes), places(lanes))
        return builder.shuffle_vector(a, b, chosen)

    return method


def _shuffled(name, doc, places):
    method = _shuffle(places)
    return _binary(name, doc, method, method)


evens = _shuffled("evens", "Lanes 0, 2, .. of a, then of b.", lambda n: range(0, 2 * n, 2))
odds = _shuffled("odds", "Lanes 1, 3, .. of a, then of b.", lambda n: range(1, 2 * n, 2))
zip_low = _shuffled(
    "zip_low", "a0 b0 a1 b1 .., first half.", lambda n: [i // 2 + i % 2 * n for i in range(n)]
)
zip_high = _shuffled(
    "zip_high",
    "a0 b0 a1 b1 .., second half.",
    lambda n: [n // 2 + i // 2 + i % 2 * n for i in range(n)],
)


@intrinsic
def pick(typingctx, mask, a, b):
    """`a` where the mask is true, else `b`."""

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return a(mask, a, a), codegen


@intrinsic
def every(typingctx, mask):
    """Whether all lanes of a mask are true."""

    def codegen(context, builder, signature, args):
        whole = ir.IntType(mask.lanes)
        joined = builder.bitcast(args[0], whole)
        return builder.icmp_unsigned("==", joined, ir.Constant(whole, 2**mask.lanes - 1))

    return types.boolean(mask), codegen


@intrinsic
def bits(typingctx, a):
    """The bits of a vector of floats as integers of the same width."""
    vector = Vector(types.int32 if a.scalar.bitwidth == 32 else types.int64, a.lanes)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(vector))

    return vector(a), codegen


@intrinsic
def unbits(typingctx, a):
    """The opposite of `bits`."""
    vector = Vector(types.float32 if a.scalar.bitwidth == 32 else types.float64, a.lanes)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(vector))

    return vector(a), codegen


@intrinsic
def splat_bits(typingctx, value, like):
    """An integer in every lane of the integers that `bits` makes of a vector of `like`."""
    width = like.dtype.bitwidth
    vector = Vector(types.int32 if width == 32 else types.int64, _lanes(like))

    def codegen(context, builder, signature, args):
        scalar = context.cast(builder, args[0], types.int64, vector.scalar)
        return _splat(builder, scalar, vector.lanes)

    return vector(types.int64, like), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once where the machine can."""

    def codegen(context, builder, signature, args):
        kind = args[0].type
        name = f"llvm.fmuladd.v{a.lanes}f{a.scalar.bitwidth}"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
        return builder.call(function, args)

    return a(a, a, a), codegen
