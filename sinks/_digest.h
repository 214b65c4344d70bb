/* What the digests here have in common: blocks of 64 bytes, and Python's side of it.
 *
 * Each is an object that begins with a `Digest`, takes bytes by a function of its own, and belongs to
 * one thread at a time: large pieces are taken without the interpreter's lock.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK = 64, WORTH_RELEASING = 16 * 1024 /* bytes */ };

typedef struct {
    PyObject_HEAD
    uint64_t size; /* bytes; the last size % 64 are in rest */
    uint8_t rest[BLOCK];
    int busy; /* an update runs without the interpreter's lock */
} Digest;

/* Takes whole blocks. */
typedef void (*Blocks)(Digest *self, const uint8_t *at, size_t blocks);

/* Takes bytes, as blocks; what is no whole one is kept. */
static inline void take(Digest *self, const uint8_t *data, size_t size, Blocks blocks)
{
    size_t held = self->size % BLOCK;
    self->size += size;
    if (held) {
        size_t missing = BLOCK - held < size ? BLOCK - held : size;
        memcpy(self->rest + held, data, missing);
        if (held + missing < BLOCK)
            return;
        blocks(self, self->rest, 1);
        data += missing;
        size -= missing;
    }
    blocks(self, data, size / BLOCK);
    memcpy(self->rest, data + size / BLOCK * BLOCK, size % BLOCK);
}

/* Writes the rest and its padding, of a stream that had `size` bytes; returns how many blocks it is.
 * Behind it come 8 bytes for the number of bits, which each digest orders in its own way. */
static inline size_t padded(const Digest *self, uint64_t size, uint8_t last[2 * BLOCK])
{
    size_t held = size % BLOCK;
    memset(last, 0, 2 * BLOCK);
    memcpy(last, self->rest, held);
    last[held] = 0x80;
    return held < BLOCK - 8 ? 1 : 2;
}

static inline int refuse_if_busy(const Digest *self)
{
    if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "a digest belongs to one thread at a time");
    return self->busy;
}

static inline int refuse_between_blocks(const Digest *self)
{
    if (self->size % BLOCK)
        PyErr_SetString(PyExc_ValueError, "there is a state at multiples of 64 only");
    return self->size % BLOCK != 0;
}

/* Makes an object of a type, filled with zeros; or, where `state` and `size` are given, one that is to
 * go on there: `*state` is NULL if they are not. */
static inline Digest *made(PyTypeObject *type, PyObject *args, PyObject *kwargs, const char **state,
                           Py_ssize_t state_size)
{
    static char *names[] = {"state", "size", NULL};
    Py_ssize_t given = 0;
    unsigned long long size = 0;
    *state = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|y#K", names, state, &given, &size))
        return NULL;
    if (*state ? given != state_size || size % BLOCK : size != 0) {
        PyErr_Format(PyExc_ValueError, "a state has %zd bytes, and a size that is a multiple of 64",
                     state_size);
        return NULL;
    }
    Digest *self = (Digest *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self)
        self->size = size;
    return self;
}

static inline void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static inline PyObject *update(Digest *self, PyObject *data, Blocks blocks)
{
    Py_buffer view;
    if (refuse_if_busy(self) || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE))
        return NULL;
    if (view.len < WORTH_RELEASING) {
        take(self, view.buf, (size_t)view.len, blocks);
    } else {
        self->busy = 1;
        Py_BEGIN_ALLOW_THREADS
        take(self, view.buf, (size_t)view.len, blocks);
        Py_END_ALLOW_THREADS
        self->busy = 0;
    }
    PyBuffer_Release(&view);
    Py_RETURN_NONE;
}

/* Makes the module, with its one type. */
static inline PyObject *module_with(struct PyModuleDef *definition, PyType_Spec *spec, const char *name)
{
    PyObject *module = PyModule_Create(definition);
    PyObject *type = module ? PyType_FromSpec(spec) : NULL;
    if (!type || PyModule_AddObjectRef(module, name, type)) {
        Py_XDECREF(module);
        module = NULL;
    }
    Py_XDECREF(type);
    return module;
}
