"""The two register tiles of the convolutions, as LLVM instructions on vectors.

Numba's own loops leave the accumulators in memory or the vectors unused; here a tile is a fixed
number of vector registers, whatever LLVM makes of the loops round it. There is code for each size
of a tile, chosen at run time. Nothing is checked; every index is an element of a flat array.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

# 32 vector registers of 64 bytes, or 16 of 32 (ARM: pairs out of 32 registers of 16)
_WIDE = bool(llvm.get_host_cpu_features().get("avx512f", False))
VECTOR_BYTES = 64 if _WIDE else 32
TILE_M = (1, 2, 4, 6, 8) if _WIDE else (1, 2, 4)  # rows that a tile may have
TILE_V = 3  # vectors of a row, at most


@register_jitable
def lanes(itemsize):
    """Elements of a vector."""
    return VECTOR_BYTES // itemsize


class _Builder:
    """Vector instructions for arrays of one element type."""

    def __init__(self, context, builder, array):
        self.context, self.builder = context, builder
        self.lanes = lanes(array.dtype.bitwidth // 8)
        self.bits = array.dtype.bitwidth
        scalar = context.get_value_type(array.dtype)
        self.vector = ir.VectorType(scalar, self.lanes)
        kinds = [self.vector] * 3
        name = f"llvm.fmuladd.v{self.lanes}f{self.bits}"
        module = builder.module
        self.fmuladd = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(self.vector, kinds), name
        )

    def data(self, array_type, value):
        return self.context.make_array(array_type)(self.context, self.builder, value).data

    def at(self, pointer, index):
        if isinstance(index, int):
            index = ir.Constant(ir.IntType(64), index)
        return self.builder.gep(pointer, [index])

    def load(self, pointer):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(pointer, align=self.bits // 8)

    def store(self, vector, pointer):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(vector, pointer, align=self.bits // 8)

    def splat(self, scalar):
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = ir.Constant(ir.IntType(32), 0)
        vector = self.builder.insert_element(undefined, scalar, first)
        places = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(vector, vector, places)

    def first_lanes(self, count):
        """A mask of the first `count` lanes."""
        long = ir.IntType(64)
        counts = ir.VectorType(long, self.lanes)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        limit = self.builder.insert_element(
            ir.Constant(counts, ir.Undefined), count, ir.Constant(ir.IntType(32), 0)
        )
        limit = self.builder.shuffle_vector(limit, limit, zeros)
        return self.builder.icmp_signed("<", ir.Constant(counts, list(range(self.lanes))), limit)

    def shuffle(self, a, b, places):
        places = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
        return self.builder.shuffle_vector(a, b, places)

    def fma(self, a, b, c):
        return self.builder.call(self.fmuladd, [a, b, c])

    def accumulators(self, count):
        # in the entry block, so that LLVM makes registers of them
        return [cgutils.alloca_once(self.builder, self.vector) for _ in range(count)]


def _for_each_size(builder, m, v, emit):
    """Code that runs what ``emit(rows, vectors)`` makes for the m and v of the call."""
    for rows in TILE_M:
        with builder.if_then(builder.icmp_signed("==", m, m.type(rows))):
            for vectors in range(1, TILE_V + 1):
                with builder.if_then(builder.icmp_signed("==", v, v.type(vectors))):
                    emit(rows, vectors)


@intrinsic
def multiply_tile(typingctx, m, v, depth, w, w_at, x, x_at, offsets, bias, first, y, y_at, pitch):
    """y[i][j] = start + sum_k w[k][i] * x[offsets[k] + j], for m rows i and v vectors of j.

    `w` is packed, [depth][m] from `w_at` on; row i of y begins at ``y_at + i * pitch``. The sum
    starts with ``bias[i]`` (from index `first` on), or with y itself where `first` is negative.
    """

    def codegen(context, builder, signature, args):
        m, v, depth, w_, w_at, x_, x_at, offsets_, bias_, first, y_, y_at, pitch = args
        kinds = signature.args
        b = _Builder(context, builder, kinds[5])
        w_ = b.at(b.data(kinds[3], w_), w_at)
        x_ = b.at(b.data(kinds[5], x_), x_at)
        offsets_ = b.data(kinds[7], offsets_)
        bias_ = b.data(kinds[8], bias_)
        y_ = b.at(b.data(kinds[10], y_), y_at)

        def emit(rows, vectors):
            places = [
                b.at(y_, builder.add(builder.mul(pitch, pitch.type(i)), pitch.type(j * b.lanes)))
                for i in range(rows)
                for j in range(vectors)
            ]
            sums = b.accumulators(rows * vectors)
            is_first = builder.icmp_signed(">=", first, first.type(0))
            with builder.if_else(is_first) as (begin, go_on):
                with begin:
                    for i in range(rows):
                        scalar = builder.load(b.at(b.at(bias_, first), i))
                        for j in range(vectors):
                            builder.store(b.splat(scalar), sums[i * vectors + j])
                with go_on:
                    for place, acc in zip(places, sums, strict=True):
                        builder.store(b.load(place), acc)
            with cgutils.for_range(builder, depth) as loop:
                row = b.at(x_, builder.load(b.at(offsets_, loop.index)))
                pixels = [b.load(b.at(row, j * b.lanes)) for j in range(vectors)]
                column = b.at(w_, builder.mul(loop.index, loop.index.type(rows)))
                for i in range(rows):
                    weight = b.splat(builder.load(b.at(column, i)))
                    for j in range(vectors):
                        acc = sums[i * vectors + j]
                        builder.store(b.fma(weight, pixels[j], builder.load(acc)), acc)
            for place, acc in zip(places, sums, strict=True):
                b.store(builder.load(acc), place)

        _for_each_size(builder, m, v, emit)
        return context.get_dummy_value()

    long = types.int64
    arguments = (long, long, long, w, long, x, long, offsets, bias, long, y, long, long)
    return types.void(*arguments), codegen


@intrinsic
def dot_tile(typingctx, m, v, count, a, a_at, a_pitch, x, x_at, offsets, first, sums, at, pitch):
    """sums[i][j] += a[i] * x[offsets[first + j]], lane by lane over `count` elements of each.

    What follows the last element of `a` in its vector has to be zeros; that of x is not looked at.

    Row i of `a` begins at ``a_at + i * a_pitch``; one vector of `sums` for each of m rows i and v
    columns j, row i from ``at + i * pitch`` on.
    """

    def codegen(context, builder, signature, args):
        m, v, count, a_, a_at, a_pitch, x_, x_at, offsets_, first, sums_, at, pitch = args
        kinds = signature.args
        b = _Builder(context, builder, kinds[6])
        a_ = b.at(b.data(kinds[3], a_), a_at)
        x_ = b.at(b.data(kinds[6], x_), x_at)
        offsets_ = b.at(b.data(kinds[8], offsets_), first)
        sums_ = b.at(b.data(kinds[10], sums_), at)

        def emit(rows, columns):
            left = [b.at(a_, builder.mul(a_pitch, a_pitch.type(i))) for i in range(rows)]
            right = [b.at(x_, builder.load(b.at(offsets_, j))) for j in range(columns)]
            places = [
                b.at(sums_, builder.add(builder.mul(pitch, pitch.type(i)), pitch.type(j * b.lanes)))
                for i in range(rows)
                for j in range(columns)
            ]
            registers = b.accumulators(rows * columns)
            for place, acc in zip(places, registers, strict=True):
                builder.store(b.load(place), acc)
            whole = builder.udiv(count, count.type(b.lanes))
            rest = builder.urem(count, count.type(b.lanes))

            def step(where, mask=None):
                vectors = [b.load(b.at(pointer, where)) for pointer in right]
                if mask is not None:
                    zero = ir.Constant(b.vector, None)
                    vectors = [builder.select(mask, vector, zero) for vector in vectors]
                for i in range(rows):
                    factor = b.load(b.at(left[i], where))
                    for j in range(columns):
                        acc = registers[i * columns + j]
                        builder.store(b.fma(factor, vectors[j], builder.load(acc)), acc)

            with cgutils.for_range(builder, whole) as loop:
                step(builder.mul(loop.index, loop.index.type(b.lanes)))
            with builder.if_then(builder.icmp_signed(">", rest, rest.type(0))):
                step(builder.mul(whole, whole.type(b.lanes)), b.first_lanes(rest))
            for place, acc in zip(places, registers, strict=True):
                b.store(builder.load(acc), place)

        _for_each_size(builder, m, v, emit)
        return context.get_dummy_value()

    long = types.int64
    arguments = (long, long, long, a, long, long, x, long, offsets, long, sums, long, long)
    return types.void(*arguments), codegen


@intrinsic
def copy_vector(typingctx, source, at, target, to):
    """One vector from ``source[at]`` to ``target[to]``."""

    def codegen(context, builder, signature, args):
        b = _Builder(context, builder, source)
        vector = b.load(b.at(b.data(source, args[0]), args[1]))
        b.store(vector, b.at(b.data(target, args[2]), args[3]))
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), codegen


@intrinsic
def sum_lanes(typingctx, sums, at, out, to):
    """out[to + i] = sum of the lanes of vector i from ``sums[at]`` on, for as many i as lanes."""

    def codegen(context, builder, signature, args):
        b = _Builder(context, builder, sums)
        pointer = b.at(b.data(sums, args[0]), args[1])
        vectors = [b.load(b.at(pointer, i * b.lanes)) for i in range(b.lanes)]
        while len(vectors) > 1:  # neighbouring lanes are added: lane i ends up with vector i
            vectors = [
                builder.fadd(
                    b.shuffle(one, other, range(0, 2 * b.lanes, 2)),
                    b.shuffle(one, other, range(1, 2 * b.lanes, 2)),
                )
                for one, other in zip(vectors[::2], vectors[1::2], strict=True)
            ]
        b.store(vectors[0], b.at(b.data(out, args[2]), args[3]))
        return context.get_dummy_value()

    return types.void(sums, types.int64, out, types.int64), codegen
