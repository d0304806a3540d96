# A convolution that is called again with other arrays of the same kind: included by _conv.pyx.
#
# All that does not depend on the numbers is worked out once.  A small layer takes a few microseconds,
# about what this takes.

from numpy import empty

from fastconv._arrays import LARGE, empty as empty_aligned


cdef void run_on(const fc_isa* isa, const PanelPlan* plan, int form, Tables tables,
                 const real* x, const real* w, const char* packed, const real* bias, real* out,
                 char* memory) noexcept nogil:
    """One thread's run; `memory` has room for the operands and a thread's scratch."""
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t item
    cdef char* scratch
    if form == PANELS:
        fill_panel_operands(isa, plan, &tables, memory, w, packed, bias)
        scratch = memory + panel_operands_size(plan, sizeof(real), packed != NULL)
        for item in range(panel_blocks(plan)):
            panel_block(isa, plan, x, &tables, out, item, scratch)
    else:
        fill_operands(isa, xp, &tables, memory, w, packed, bias)
        scratch = memory + operands_size(xp, sizeof(real), packed != NULL)
        for item in range(blocks(xp)):
            correlate_block(isa, xp, x, &tables, out, item, scratch)


cdef class Prepared(Call):
    """A call of conv2d on one thread with all worked out but its arrays."""

    cdef const fc_isa* isa
    cdef PanelPlan plan         # in the other forms plan.x is all of it
    cdef int form
    cdef bint flush
    cdef object w_array         # of a packed weight
    cdef View w
    cdef Packed packed
    cdef const char* packed_w
    cdef Tables tables
    cdef Workspace offsets      # what the tables lie in
    cdef size_t size            # of the memory for a run
    cdef Py_ssize_t bias_size   # bytes
    cdef tuple shape
    cdef object empty           # what makes a new result
    cdef object dtype

    cdef object run(self, const View* x, const View* w, bias, out):
        cdef View bias_view, out_view
        cdef const char* first_bias = NULL
        cdef bint given = out is not None
        cdef size_t unaligned = <size_t>x.first
        cdef Workspace space
        cdef char* memory
        cdef uint64_t before
        if w == NULL:
            w = &self.w
        elif not is_contiguous(w):
            return None
        unaligned |= <size_t>w.first
        if bias is not None:
            look_at(bias, &bias_view)
            if (bias_view.axes != 1 or not is_contiguous(&bias_view)
                    or bias_view.size != self.bias_size):
                return None
            first_bias = bias_view.first
            unaligned |= <size_t>first_bias
        if not given:
            out = self.empty(self.shape, self.dtype)
        look_at(out, &out_view)
        if out_view.readonly or not is_like(&out_view, &self.out):
            return None
        unaligned |= <size_t>out_view.first
        if unaligned % self.x.item:
            return None
        if given and (overlap(&out_view, x) or overlap(&out_view, w)
                      or (first_bias != NULL and overlap(&out_view, &bias_view))):
            return None
        space = take_workspace(self.size)
        memory = space.aligned()
        before = fc_flush_denormals(self.flush)
        with nogil:
            if self.x.item == 4:
                run_on(self.isa, &self.plan, self.form, self.tables, <const float*>x.first,
                       <const float*>w.first, self.packed_w, <const float*>first_bias,
                       <float*>out_view.first, memory)
            else:
                run_on(self.isa, &self.plan, self.form, self.tables, <const double*>x.first,
                       <const double*>w.first, self.packed_w, <const double*>first_bias,
                       <double*>out_view.first, memory)
        fc_set_float_mode(before)
        give_workspace(space, 1)
        return out


def prepare(tuple geometry, x, weight, Packed packed, out, bint nhwc, int activation, int form,
            bint flush, int isa_index, int threads):
    """A `Prepared` for such arrays, or None where the call is one for several threads, or empty.

    `weight` is None but for a packed one. With `nhwc` the arrays' axes are in that order.
    """
    cdef Prepared p = Prepared.__new__(Prepared)
    cdef Geometry g = read_geometry(geometry)
    cdef Plan* plan = &p.plan.x
    cdef ptrdiff_t xs[4]
    cdef ptrdiff_t os[4]
    cdef bint is_packed = packed is not None and form != LANES
    cdef int i, axis
    look_at(x, &p.x)
    look_at(out, &p.out)
    if g.images == 0:
        return None
    if weight is not None:
        look_at(weight, &p.w)
    for i in range(4):
        axis = (0, 3, 1, 2)[i] if nhwc else i
        xs[i] = p.x.strides[axis] // p.x.item
        os[i] = p.out.strides[axis] // p.x.item
    p.isa = isa_table(isa_index)
    p.form, p.flush, p.packed = form, flush, packed if is_packed else None
    p.packed_w = packed.memory.aligned() if is_packed else NULL
    p.w_array, p.shape, p.dtype = weight, out.shape, out.dtype
    p.empty = empty_aligned if out.nbytes >= LARGE else empty
    p.bias_size = g.filters * p.x.item
    plan[0] = forward_plan(p.isa, &g, p.x.item)
    plan.activation = activation
    set_strides(plan, xs, os)
    flatten_planes(plan)
    plan.depth = plan.ci * plan.row.n_taps * plan.col.n_taps
    if threads > 1 and flops(plan) >= SERIAL_FLOPS:
        return None
    if form == PANELS:
        plan_panels(&p.plan, p.isa, p.x.item, 1)
    else:
        plan.mode = form
        cut(plan, p.isa, p.x.item, 1)
    p.offsets = Workspace.__new__(Workspace)
    if form == PANELS:
        grow_workspace(p.offsets, panel_offsets_size(&p.plan, is_packed))
        fill_panel_offsets(&p.plan, &p.tables, p.offsets.aligned(), is_packed)
        p.size = panel_operands_size(&p.plan, p.x.item, is_packed) + plan.scratch
    else:
        grow_workspace(p.offsets, offsets_size(plan))
        fill_offsets(plan, &p.tables, p.offsets.aligned())
        p.size = operands_size(plan, p.x.item, is_packed) + plan.scratch
    return p
