# Calls that come again, found by their arguments: included by _dispatch.pyx.

cimport cython

cdef enum:
    MOST = 256      # calls that a table keeps, each with some kilobytes of its own

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
        return same_numbers(<tuple>a, <tuple>b)
    return a == b


cdef bint same_numbers(tuple a, tuple b) except -1:
    cdef Py_ssize_t i
    cdef PyObject* of_a
    cdef PyObject* of_b
    if PyTuple_Size(a) != PyTuple_Size(b):
        return False
    for i in range(PyTuple_Size(a)):
        of_a, of_b = PyTuple_GetItem(a, i), PyTuple_GetItem(b, i)
        if of_a != of_b and not same_number(<object>of_a, <object>of_b):
            return False
    return True


cdef class Call:
    """One that goes the long way; those of the drivers run."""

    cdef object run(self, const View* x, const View* w, bias, out):
        """The result, in `out` or a new array; None where an array is not as it was: nothing is done.

        x has the shape and strides that it had, w (NULL for a packed one) its shape.
        """
        return None


cdef class Calls:
    """The calls of an operation, or of a packed weight; several threads may use it at once."""

    cdef Call first
    cdef Py_ssize_t count

    cdef Call find(self, const View* x, const Py_ssize_t* weight, settings, generation,
                   tuple arguments):
        cdef Call call = self.first
        while call is not None:
            if (is_like(x, &call.x) and same(weight, call.weight) and call.settings is settings
                    and call.generation is generation
                    and same_numbers(arguments, call.arguments)):
                return call
            call = call.next
        return None

    @cython.binding(False)      # else each call makes a tuple and a dict
    def run(self, x, weight, bias, out, tuple arguments):
        """What the operation returns; None where it is to go the long way.

        Parameters
        ----------
        x, weight, bias, out
            The arrays; None for one that is not given, or packed.
        arguments : tuple
            All others.
        """
        cdef View x_view, w_view
        cdef Call call
        cdef PyObject* process
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
        process = PyDict_GetItem(_config, "_process")
        if process == NULL or _override() is not None:
            settings = config.current()
        else:
            settings = <object>process
            if settings is None:
                return None
        call = self.find(&x_view, w_view.shape, settings,
                         <object>PyDict_GetItem(_registry, "_generation"), arguments)
        if call is None:
            return None
        return call.run(&x_view, &w_view if weight is not None else NULL, bias, out)

    def keep(self, prepare, settings, generation, x, weight, out, tuple arguments):
        """Keep what `prepare()` gives for calls that are like this one, if it can be known again.

        Where it gives None they go the long way, and nothing is prepared for them once more.
        """
        cdef View x_view, out_view
        cdef Py_ssize_t w_shape[4]
        cdef Call call
        cdef int i
        if type(x) is not _ndarray or not is_number(arguments) or not out.flags.c_contiguous:
            return      # elements of `out` might share memory
        dtype = x.dtype
        if (dtype is not _float32 and dtype is not _float64) or not is_plain(out, dtype):
            return
        look_at(x, &x_view)
        look_at(out, &out_view)
        if x_view.axes != 4 or out_view.axes != 4:
            return
        w_shape[0] = w_shape[1] = w_shape[2] = w_shape[3] = 0
        if weight is not None:
            if not is_plain(weight, dtype) or weight.ndim != 4:
                return
            for i in range(4):
                w_shape[i] = weight.shape[i]
        if self.find(&x_view, w_shape, settings, generation, arguments) is not None:
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
