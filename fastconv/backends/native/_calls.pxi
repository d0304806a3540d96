# Calls that come again, found by their arguments: included by _dispatch.pyx.

cimport cython

cdef enum:
    MOST = 256      # calls that a table keeps, each with some kilobytes of its own
    ARRAYS = 4      # arguments of a call that are arrays: the first ones

cdef object _ndarray = ndarray, _float32 = FLOAT32, _float64 = FLOAT64
cdef object _override = config._overrides.get
cdef dict _config = config.__dict__, _registry = registry.__dict__


cdef inline bint is_plain(array, dtype):
    return type(array) is _ndarray and array.dtype is dtype


cdef bint is_number(value):
    """Whether an argument means the same wherever its type and value are the same."""
    if type(value) is tuple:
        for part in <tuple>value:
            if not is_number(part):
                return False
        return True
    return type(value) is int or type(value) is str or type(value) is bool or value is None


cdef bint same_number(a, b) except -1:
    """Whether a is what b is, which `is_number` allowed: 1.0 and True are not 1."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return same_numbers(<tuple>a, 0, <tuple>b)
    return a == b


cdef bint same_numbers(tuple a, Py_ssize_t first, tuple b) except -1:
    """Whether a[first:] is b."""
    cdef Py_ssize_t i, n = PyTuple_Size(b)
    cdef PyObject* of_a
    cdef PyObject* of_b
    if PyTuple_Size(a) != first + n:
        return False
    for i in range(n):
        of_a, of_b = PyTuple_GetItem(a, first + i), PyTuple_GetItem(b, i)
        if of_a != of_b and not same_number(<object>of_a, <object>of_b):
            return False
    return True


cdef class Call:
    """One that goes the long way; those of the drivers run."""

    cdef object run(self, const View* x, const View* w, bias, out):
        """The result, in `out` or a new array; None, with nothing done, if an array differs.

        x has the shape and strides that it had, w (NULL for a packed one) its shape.
        """
        return None


cdef class Calls:
    """The calls of an operation, or of a packed weight; several threads may use it at once."""

    cdef Call first
    cdef Py_ssize_t count

    cdef Call find(self, const View* x, const Py_ssize_t* weight, settings, generation,
                   tuple made):
        cdef Call call = self.first
        while call is not None:
            if (is_like(x, &call.x) and same(weight, call.weight) and call.settings is settings
                    and call.generation is generation
                    and same_numbers(made, ARRAYS, call.arguments)):
                return call
            call = call.next
        return None

    @cython.binding(False)      # and one argument: else each call makes another tuple
    def run(self, tuple made not None, /):
        """What the operation returns; None where it is to go the long way.

        Parameters
        ----------
        made : tuple
            The call: its image, weight, bias and `out`, None for one that is not given or packed;
            then all other arguments.
        """
        cdef View x_view, w_view
        cdef Call call
        if PyTuple_Size(made) < ARRAYS:
            raise ValueError(f"made: expected at least {ARRAYS} arguments, got {len(made)}")
        x, weight = <object>PyTuple_GetItem(made, 0), <object>PyTuple_GetItem(made, 1)
        bias, out = <object>PyTuple_GetItem(made, 2), <object>PyTuple_GetItem(made, 3)
        if type(x) is not _ndarray:
            return None
        dtype = x.dtype
        if dtype is not _float32 and dtype is not _float64:
            return None
        if not ((bias is None or is_plain(bias, dtype)) and (out is None or is_plain(out, dtype))):
            return None
        look_at(x, &x_view)
        if x_view.axes != 4:
            return None
        w_view.shape[0] = w_view.shape[1] = w_view.shape[2] = w_view.shape[3] = 0
        if weight is not None:
            if not is_plain(weight, dtype):
                return None
            look_at(weight, &w_view)
            if w_view.axes != 4:
                return None
        # `config.current()`, without a frame of Python's
        if _override() is None:
            settings = <object>PyDict_GetItem(_config, "_process")
        else:
            settings = config.current()
        if settings is None:    # the environment was not read yet
            return None
        call = self.find(&x_view, w_view.shape, settings,
                         <object>PyDict_GetItem(_registry, "_generation"), made)
        if call is None:
            return None
        return call.run(&x_view, &w_view if weight is not None else NULL, bias, out)

    def keep(self, tuple made not None, y, settings, generation, prepare):
        """Keep what `prepare()` gives for calls like this one, which gave y, if there can be such.

        Where it gives None they go the long way, and nothing is prepared for them once more.
        """
        cdef View x_view, out_view
        cdef Py_ssize_t w_shape[4]
        cdef Call call
        cdef int i
        cdef tuple arguments = made[ARRAYS:]
        x, weight = made[0], made[1]
        if type(x) is not _ndarray or not is_number(arguments):
            return
        dtype = x.dtype
        if (dtype is not _float32 and dtype is not _float64) or not is_plain(y, dtype):
            return
        if not y.flags.c_contiguous:
            return      # its elements might share memory
        look_at(x, &x_view)
        look_at(y, &out_view)
        if x_view.axes != 4 or out_view.axes != 4:
            return
        w_shape[0] = w_shape[1] = w_shape[2] = w_shape[3] = 0
        if weight is not None:
            if not is_plain(weight, dtype) or weight.ndim != 4:
                return
            for i in range(4):
                w_shape[i] = weight.shape[i]
        if self.find(&x_view, w_shape, settings, generation, made) is not None:
            return
        call = prepare()
        if call is None:
            call = Call.__new__(Call)
        call.x, call.out = x_view, out_view
        for i in range(4):
            call.weight[i] = w_shape[i]
        call.settings, call.generation, call.arguments = settings, generation, arguments
        if self.count >= MOST:
            self.clear()
        call.next = self.first
        self.first = call
        self.count += 1

    def clear(self):
        self.first = None
        self.count = 0

    def __len__(self):
        return self.count
