# Arrays through the buffer protocol, at a tenth of what a typed memoryview costs.

from cpython.buffer cimport (
    PyBUF_STRIDES, Py_buffer, PyBuffer_Release, PyObject_GetBuffer)


# Where an array lies: of at most four axes, strides in bytes.
cdef struct View:
    char* first
    int axes
    bint readonly
    Py_ssize_t item, size   # bytes of an element, of all
    Py_ssize_t shape[4]
    Py_ssize_t strides[4]


cdef inline int look_at(array, View* view) except -1:
    """Reads it through the buffer protocol; whoever asks holds the array meanwhile."""
    cdef Py_buffer buffer
    cdef int i
    PyObject_GetBuffer(array, &buffer, PyBUF_STRIDES)
    view.first = <char*>buffer.buf
    view.axes = buffer.ndim
    view.readonly = buffer.readonly
    view.item = buffer.itemsize
    view.size = buffer.len
    for i in range(<int>(buffer.ndim if buffer.ndim < 4 else 4)):
        view.shape[i] = buffer.shape[i]
        view.strides[i] = buffer.strides[i]
    PyBuffer_Release(&buffer)
    return 0


cdef inline void reach(const View* view, size_t* low, size_t* high) noexcept nogil:
    """The first byte, and one past the last."""
    cdef Py_ssize_t span
    cdef int i
    low[0], high[0] = <size_t>view.first, <size_t>view.first + view.item
    for i in range(view.axes):
        span = (view.shape[i] - 1) * view.strides[i]
        if span < 0:
            low[0] += span
        else:
            high[0] += span


cdef inline bint overlap(const View* a, const View* b) noexcept nogil:
    """Whether two arrays may share memory, going by their bounds alone."""
    cdef size_t a_low, a_high, b_low, b_high
    reach(a, &a_low, &a_high)
    reach(b, &b_low, &b_high)
    return a_low < b_high and b_low < a_high


cdef inline bint is_contiguous(const View* view) noexcept nogil:
    cdef Py_ssize_t pitch = view.item
    cdef int i
    for i in range(view.axes - 1, -1, -1):
        if view.shape[i] != 1 and view.strides[i] != pitch:
            return False
        pitch *= view.shape[i]
    return True


cdef inline bint same(const Py_ssize_t* a, const Py_ssize_t* b) noexcept nogil:
    return a[0] == b[0] and a[1] == b[1] and a[2] == b[2] and a[3] == b[3]


cdef inline bint is_like(const View* a, const View* b) noexcept nogil:
    """Whether two arrays of four axes have the same shape, strides and size of an element."""
    return (a.axes == b.axes and a.item == b.item and same(a.shape, b.shape)
            and same(a.strides, b.strides))
