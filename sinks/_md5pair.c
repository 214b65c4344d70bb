/* Two MD5s of one stream at the price of one: that of all bytes, and that of the current part.
 *
 * S3's ETag is made of the MD5s of the parts, and the client is told that of the archive: two passes
 * over the same bytes. MD5 (RFC 1321) is bound by the latency of its one chain of additions, so a
 * processor computes a second, independent chain in the gaps. Both chains take the same block, which
 * they can as long as a part begins at a multiple of 64 bytes of the stream.
 *
 * What it is good for, and what takes its place where it isn't built: sinks/pipeline/digest.py.
 */
#include "_digest.h"

enum { WORDS = 4, STATE = 4 * WORDS };

static const uint32_t INITIAL[WORDS] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

static inline uint32_t rotated(uint32_t x, int n) { return (x << n) | (x >> (32 - n)); }

static inline uint32_t word(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* A step of both chains; small letters are the one, capitals the other. */
#define STEP(f, a, b, c, d, A, B, C, D, x, s, k)                                                    \
    do {                                                                                            \
        uint32_t m = word(at + 4 * (x)) + (k);                                                      \
        a = rotated(a + f(b, c, d) + m, s) + b;                                                     \
        A = rotated(A + f(B, C, D) + m, s) + B;                                                     \
    } while (0)
#define F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
/* RFC 1321 joins the halves by "or"; they share no bit, so a sum is the same, with a shorter chain. */
#define G(x, y, z) (((y) & ~(z)) + ((x) & (z)))
#define H(x, y, z) ((x) ^ (y) ^ (z))
#define I(x, y, z) ((y) ^ ((x) | ~(z)))
#define FOUR(f, s0, s1, s2, s3, x0, k0, x1, k1, x2, k2, x3, k3)                                     \
    STEP(f, a, b, c, d, A, B, C, D, x0, s0, k0);                                                    \
    STEP(f, d, a, b, c, D, A, B, C, x1, s1, k1);                                                    \
    STEP(f, c, d, a, b, C, D, A, B, x2, s2, k2);                                                    \
    STEP(f, b, c, d, a, B, C, D, A, x3, s3, k3)

static void compress(uint32_t one[WORDS], uint32_t other[WORDS], const uint8_t *at, size_t blocks)
{
    uint32_t a = one[0], b = one[1], c = one[2], d = one[3];
    uint32_t A = other[0], B = other[1], C = other[2], D = other[3];
    for (; blocks; blocks--, at += BLOCK) {
        const uint32_t a0 = a, b0 = b, c0 = c, d0 = d, A0 = A, B0 = B, C0 = C, D0 = D;
        FOUR(F, 7, 12, 17, 22, 0, 0xd76aa478, 1, 0xe8c7b756, 2, 0x242070db, 3, 0xc1bdceee);
        FOUR(F, 7, 12, 17, 22, 4, 0xf57c0faf, 5, 0x4787c62a, 6, 0xa8304613, 7, 0xfd469501);
        FOUR(F, 7, 12, 17, 22, 8, 0x698098d8, 9, 0x8b44f7af, 10, 0xffff5bb1, 11, 0x895cd7be);
        FOUR(F, 7, 12, 17, 22, 12, 0x6b901122, 13, 0xfd987193, 14, 0xa679438e, 15, 0x49b40821);
        FOUR(G, 5, 9, 14, 20, 1, 0xf61e2562, 6, 0xc040b340, 11, 0x265e5a51, 0, 0xe9b6c7aa);
        FOUR(G, 5, 9, 14, 20, 5, 0xd62f105d, 10, 0x02441453, 15, 0xd8a1e681, 4, 0xe7d3fbc8);
        FOUR(G, 5, 9, 14, 20, 9, 0x21e1cde6, 14, 0xc33707d6, 3, 0xf4d50d87, 8, 0x455a14ed);
        FOUR(G, 5, 9, 14, 20, 13, 0xa9e3e905, 2, 0xfcefa3f8, 7, 0x676f02d9, 12, 0x8d2a4c8a);
        FOUR(H, 4, 11, 16, 23, 5, 0xfffa3942, 8, 0x8771f681, 11, 0x6d9d6122, 14, 0xfde5380c);
        FOUR(H, 4, 11, 16, 23, 1, 0xa4beea44, 4, 0x4bdecfa9, 7, 0xf6bb4b60, 10, 0xbebfbc70);
        FOUR(H, 4, 11, 16, 23, 13, 0x289b7ec6, 0, 0xeaa127fa, 3, 0xd4ef3085, 6, 0x04881d05);
        FOUR(H, 4, 11, 16, 23, 9, 0xd9d4d039, 12, 0xe6db99e5, 15, 0x1fa27cf8, 2, 0xc4ac5665);
        FOUR(I, 6, 10, 15, 21, 0, 0xf4292244, 7, 0x432aff97, 14, 0xab9423a7, 5, 0xfc93a039);
        FOUR(I, 6, 10, 15, 21, 12, 0x655b59c3, 3, 0x8f0ccc92, 10, 0xffeff47d, 1, 0x85845dd1);
        FOUR(I, 6, 10, 15, 21, 8, 0x6fa87e4f, 15, 0xfe2ce6e0, 6, 0xa3014314, 13, 0x4e0811a1);
        FOUR(I, 6, 10, 15, 21, 4, 0xf7537e82, 11, 0xbd3af235, 2, 0x2ad7d2bb, 9, 0xeb86d391);
        a += a0, b += b0, c += c0, d += d0, A += A0, B += B0, C += C0, D += D0;
    }
    one[0] = a, one[1] = b, one[2] = c, one[3] = d;
    other[0] = A, other[1] = B, other[2] = C, other[3] = D;
}

typedef struct {
    Digest digest; /* whose size is that of the whole */
    uint32_t whole[WORDS], part[WORDS];
    uint64_t begins; /* where the part does */
} Pair;

static void take_blocks(Digest *self, const uint8_t *at, size_t blocks)
{
    compress(((Pair *)self)->whole, ((Pair *)self)->part, at, blocks);
}

static PyObject *written(const uint32_t chain[WORDS])
{
    uint8_t bytes[STATE];
    for (int n = 0; n < STATE; n++)
        bytes[n] = (uint8_t)(chain[n / 4] >> 8 * (n % 4));
    return PyBytes_FromStringAndSize((const char *)bytes, STATE);
}

/* The digest of a chain that has taken all blocks but the rest; the chain itself stays as it is. */
static PyObject *ended(const Pair *self, const uint32_t chain[WORDS], uint64_t size)
{
    uint8_t last[2 * BLOCK];
    uint32_t state[WORDS], unused[WORDS] = {0};
    size_t blocks = padded(&self->digest, size, last);
    for (int n = 0; n < 8; n++)
        last[blocks * BLOCK - 8 + n] = (uint8_t)(size << 3 >> 8 * n);
    memcpy(state, chain, sizeof state);
    compress(state, unused, last, blocks);
    return written(state);
}

static PyObject *pair_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const char *state;
    Pair *self = (Pair *)made(type, args, kwargs, &state, STATE);
    if (self) {
        memcpy(self->whole, INITIAL, sizeof INITIAL);
        memcpy(self->part, INITIAL, sizeof INITIAL);
        for (int n = 0; state && n < WORDS; n++)
            self->whole[n] = word((const uint8_t *)state + 4 * n);
        self->begins = self->digest.size;
    }
    return (PyObject *)self;
}

static PyObject *pair_update(Pair *self, PyObject *data)
{
    if (!self->digest.busy && self->begins % BLOCK) {
        PyErr_SetString(PyExc_ValueError, "only the last part may end between multiples of 64");
        return NULL;
    }
    return update(&self->digest, data, take_blocks);
}

static PyObject *pair_next_part(Pair *self, PyObject *Py_UNUSED(unused))
{
    if (refuse_if_busy(&self->digest))
        return NULL;
    PyObject *digest = ended(self, self->part, self->digest.size - self->begins);
    if (digest) {
        memcpy(self->part, INITIAL, sizeof INITIAL);
        self->begins = self->digest.size;
    }
    return digest;
}

static PyObject *pair_digest(Pair *self, PyObject *Py_UNUSED(unused))
{
    return refuse_if_busy(&self->digest) ? NULL : ended(self, self->whole, self->digest.size);
}

static PyObject *pair_state(Pair *self, PyObject *Py_UNUSED(unused))
{
    if (refuse_if_busy(&self->digest) || refuse_between_blocks(&self->digest))
        return NULL;
    return written(self->whole);
}

static PyMethodDef methods[] = {
    {"update", (PyCFunction)pair_update, METH_O, "Take bytes, in both chains."},
    {"next_part", (PyCFunction)pair_next_part, METH_NOARGS, "Return the part's MD5, and begin the next part."},
    {"digest", (PyCFunction)pair_digest, METH_NOARGS, "Return the MD5 of all bytes so far."},
    {"state", (PyCFunction)pair_state, METH_NOARGS, "Return what goes on from here, with the size so far."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The MD5 of a stream, and of each of its parts; for one thread at a time."},
    {Py_tp_new, pair_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "sinks._md5pair.Pair",
    .basicsize = sizeof(Pair),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_md5pair", .m_doc = "Two MD5s in one pass.", .m_size = 0,
};

PyMODINIT_FUNC PyInit__md5pair(void) { return module_with(&module, &spec, "Pair"); }
