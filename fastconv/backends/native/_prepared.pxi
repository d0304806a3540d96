# A convolution that is called again with other arrays of the same kind: included by _conv.pyx.
#
# All that does not depend on the numbers is worked out once.  A small layer takes a few microseconds,
# about what this takes.

from numpy import empty

from fastconv._arrays import LARGE, empty as empty_aligned
from fastconv._threads import usable


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
    """A call of conv2d with all worked out but its arrays."""

    cdef const fc_isa* isa
    cdef bint flush
    cdef int threads
    cdef object w_array         # of a packed weight
    cdef View w
    cdef Py_ssize_t bias_size   # bytes
    cdef tuple shape
    cdef object empty           # what makes a new result
    cdef object dtype

    cdef int launch(self, const char* x, const char* w, const char* bias, char* out) except -1:
        """Computes `out`; `bias` may be NULL."""
        raise NotImplementedError

    cdef int count(self) except -1:
        """Threads for the call at hand: a fork, or a limit, may have left fewer."""
        return usable(self.threads) if self.threads > 1 else 1

    cdef object run(self, const View* x, const View* w, bias, out):
        cdef View bias_view, out_view
        cdef const char* first_bias = NULL
        cdef bint given = out is not None
        cdef size_t unaligned = <size_t>x.first
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
        before = fc_flush_denormals(self.flush)
        try:
            self.launch(x.first, w.first, first_bias, out_view.first)
        finally:
            fc_set_float_mode(before)
        return out

    cdef int describe(self, const Geometry* g, x, weight, out, bint nhwc, ptrdiff_t* xs,
                      ptrdiff_t* os, bint flush, int isa_index) except -1:
        """Takes what all calls keep, and gives the strides; with `nhwc` the arrays' axes are so."""
        cdef int i, axis
        look_at(x, &self.x)
        look_at(out, &self.out)
        if weight is not None:
            look_at(weight, &self.w)
        for i in range(4):
            axis = (0, 3, 1, 2)[i] if nhwc else i
            xs[i] = self.x.strides[axis] // self.x.item
            os[i] = self.out.strides[axis] // self.x.item
        self.isa, self.flush, self.w_array = isa_table(isa_index), flush, weight
        self.shape, self.dtype = out.shape, out.dtype
        self.empty = empty_aligned if out.nbytes >= LARGE else empty
        self.bias_size = g.filters * self.x.item
        return 0


cdef class PreparedCorrelation(Prepared):
    """By one of the forms."""

    cdef PanelPlan plan         # in the other forms plan.x is all of it
    cdef int form
    cdef Packed packed
    cdef const char* packed_w
    cdef Tables tables
    cdef Workspace offsets      # what the tables lie in
    cdef size_t size            # of the memory for a run

    cdef int launch(self, const char* x, const char* w, const char* bias, char* out) except -1:
        cdef Workspace space
        cdef char* memory
        if self.threads > 1:
            return self.launch_threads(x, w, bias, out)
        space = take_workspace(self.size)
        memory = space.aligned()
        with nogil:
            if self.x.item == 4:
                run_on(self.isa, &self.plan, self.form, self.tables, <const float*>x,
                       <const float*>w, self.packed_w, <const float*>bias, <float*>out, memory)
            else:
                run_on(self.isa, &self.plan, self.form, self.tables, <const double*>x,
                       <const double*>w, self.packed_w, <const double*>bias, <double*>out, memory)
        give_workspace(space, 1)
        return 0

    cdef int launch_threads(self, const char* x, const char* w, const char* bias,
                            char* out) except -1:
        """Blocks and tables are for one thread: they are made once more."""
        cdef Plan plan = self.plan.x
        if self.x.item == 4:
            return run_correlation(self.isa, &plan, <const float*>x, <const float*>w, self.packed_w,
                                   <const float*>bias, <float*>out, self.form, self.count())
        return run_correlation(self.isa, &plan, <const double*>x, <const double*>w, self.packed_w,
                               <const double*>bias, <double*>out, self.form, self.count())


cdef class PreparedDepthwise(Prepared):
    """Plane by plane, or channels in the lanes."""

    cdef Geometry g
    cdef PlanePlan plan

    cdef int launch(self, const char* x, const char* w, const char* bias, char* out) except -1:
        if self.x.item == 4:
            depthwise_on(self.isa, &self.g, self.plan, <const float*>x, <const float*>w,
                         <const float*>bias, <float*>out, self.count())
        else:
            depthwise_on(self.isa, &self.g, self.plan, <const double*>x, <const double*>w,
                         <const double*>bias, <double*>out, self.count())
        return 0


cdef class PreparedWinograd(Prepared):
    """By Winograd's algorithm."""

    cdef WinogradPlan plan
    cdef WinogradWeights packed
    cdef int isa_index

    cdef int launch(self, const char* x, const char* w, const char* bias, char* out) except -1:
        cdef WinogradPlan plan = self.plan
        plan.x, plan.bias, plan.out = x, bias, out
        if self.x.item == 4:
            winograd_on(&plan, <const float*>w, self.packed, self.isa_index, self.count())
        else:
            winograd_on(&plan, <const double*>w, self.packed, self.isa_index, self.count())
        return 0


# Each gives a `Prepared` for such arrays, or None where the call is an empty one, or its rows are to be
# brought together first.
# `weight` is None but for a packed one.  With `nhwc` the arrays' axes are in that order.

def prepare(tuple geometry, x, weight, Packed packed, out, bint nhwc, int activation, int form,
            bint flush, int isa_index, int threads):
    cdef PreparedCorrelation p = PreparedCorrelation.__new__(PreparedCorrelation)
    cdef Geometry g = read_geometry(geometry)
    cdef Plan* plan = &p.plan.x
    cdef ptrdiff_t xs[4]
    cdef ptrdiff_t os[4]
    cdef bint is_packed = packed is not None and form != LANES
    p.describe(&g, x, weight, out, nhwc, xs, os, flush, isa_index)
    if g.images == 0:
        return None
    p.form, p.packed = form, packed if is_packed else None
    p.packed_w = packed.memory.aligned() if is_packed else NULL
    plan[0] = forward_plan(p.isa, &g, p.x.item)
    plan.activation = activation
    set_strides(plan, xs, os)
    flatten_planes(plan)
    plan.depth = plan.ci * plan.row.n_taps * plan.col.n_taps
    p.threads = threads if flops(plan) >= SERIAL_FLOPS else 1
    if p.threads > 1:
        return p
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


def prepare_depthwise(tuple geometry, x, weight, out, bint nhwc, int activation, bint by_rows,
                      bint flush, int isa_index, int threads):
    cdef PreparedDepthwise p = PreparedDepthwise.__new__(PreparedDepthwise)
    cdef PlanePlan* plan = &p.plan
    p.g = read_geometry(geometry)
    plan[0] = plan_planes(&p.g)
    plan.activation, plan.by_rows = activation, by_rows
    p.describe(&p.g, x, weight, out, nhwc, &plan.xn, &plan.on, flush, isa_index)
    p.threads = threads if plane_flops(plan) >= SERIAL_FLOPS else 1
    # rows that are not to be read, and written, where they lie
    cdef bint apart = by_rows and (plan.xw != 1 and plan.width > 1 or plan.ow != 1 and plan.out_w > 1)
    if apart and not channels_adjoin(p.g.channels, p.g.filters, &plan.xn, &plan.on):
        return None
    return None if p.g.images == 0 else p


def prepare_winograd(tuple geometry, x, weight, WinogradWeights packed, out, bint nhwc,
                     int activation, int m, bint flush, int isa_index, int threads):
    cdef PreparedWinograd p = PreparedWinograd.__new__(PreparedWinograd)
    cdef Geometry g = read_geometry(geometry)
    cdef WinogradPlan* plan = &p.plan
    plan[0] = winograd_weights_plan(isa_table(isa_index), &g, m, False, x.itemsize)
    p.threads = 1 if winograd_is_small(&g) else threads
    winograd_plan(plan, &g, p.threads)
    plan.activation = activation
    p.describe(&g, x, weight, out, nhwc, &plan.xn, &plan.on, flush, isa_index)
    p.packed, p.isa_index = packed, isa_index
    return None if g.images == 0 else p
