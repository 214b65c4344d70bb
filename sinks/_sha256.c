/* SHA-256 that tells its state, so that another process can go on with it.
 *
 * hashlib keeps the state to itself; an archive of terabytes is made by several processes, one after
 * the other, and its digest can't be had otherwise without reading all of it again. Processors that
 * have instructions for it (SHA-NI) take those, at the speed of hashlib.
 *
 * What it is good for, and what takes its place where it isn't built: sinks/pipeline/digest.py.
 */
#include "_digest.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HAS_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

enum { WORDS = 8, STATE = 4 * WORDS };

static const uint32_t INITIAL[WORDS] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotated(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static inline uint32_t word(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* FIPS 180-4, section 6.2.2, as it stands there. */
static void compress_anywhere(uint32_t state[WORDS], const uint8_t *at, size_t blocks)
{
    uint32_t w[64];
    for (; blocks; blocks--, at += BLOCK) {
        for (int t = 0; t < 16; t++)
            w[t] = word(at + 4 * t);
        for (int t = 16; t < 64; t++) {
            uint32_t s0 = rotated(w[t - 15], 7) ^ rotated(w[t - 15], 18) ^ (w[t - 15] >> 3);
            uint32_t s1 = rotated(w[t - 2], 17) ^ rotated(w[t - 2], 19) ^ (w[t - 2] >> 10);
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; t++) {
            uint32_t s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
            uint32_t one = h + s1 + (g ^ (e & (f ^ g))) + K[t] + w[t];
            uint32_t s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
            uint32_t two = s0 + ((a & b) | (c & (a | b)));
            h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#ifdef HAS_X86
/* The same, four rounds at a time, by the processor's instructions. It holds the words of the state as
 * ABEF and CDGH; `w` has the last sixteen words of the message schedule, four in each. */
__attribute__((target("sha,sse4.1,ssse3"))) static void
compress_by_instructions(uint32_t state[WORDS], const uint8_t *at, size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i dcba = _mm_loadu_si128((const __m128i *)state);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
    for (; blocks; blocks--, at += BLOCK) {
        const __m128i abef0 = abef, cdgh0 = cdgh;
        __m128i w[4];
#pragma GCC unroll 16
        for (int n = 0; n < 16; n++) {
            if (n < 4) {
                w[n] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(at + 16 * n)), swap);
            } else {
                const __m128i one = w[(n - 1) & 3], two = w[(n - 2) & 3];
                __m128i next = _mm_sha256msg1_epu32(w[n & 3], w[(n - 3) & 3]);
                next = _mm_add_epi32(next, _mm_alignr_epi8(one, two, 4));
                w[n & 3] = _mm_sha256msg2_epu32(next, one);
            }
            __m128i k = _mm_add_epi32(w[n & 3], _mm_loadu_si128((const __m128i *)(K + 4 * n)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0E));
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static int has_instructions(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#endif

static void (*compress)(uint32_t[WORDS], const uint8_t *, size_t) = compress_anywhere;

typedef struct {
    Digest digest;
    uint32_t chain[WORDS];
} Sha256;

static void take_blocks(Digest *self, const uint8_t *at, size_t blocks)
{
    compress(((Sha256 *)self)->chain, at, blocks);
}

static PyObject *written(const uint32_t chain[WORDS])
{
    uint8_t bytes[STATE];
    for (int n = 0; n < STATE; n++)
        bytes[n] = (uint8_t)(chain[n / 4] >> 8 * (3 - n % 4));
    return PyBytes_FromStringAndSize((const char *)bytes, STATE);
}

static PyObject *sha256_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const char *state;
    Sha256 *self = (Sha256 *)made(type, args, kwargs, &state, STATE);
    if (self) {
        memcpy(self->chain, INITIAL, sizeof INITIAL);
        for (int n = 0; state && n < WORDS; n++)
            self->chain[n] = word((const uint8_t *)state + 4 * n);
    }
    return (PyObject *)self;
}

static PyObject *sha256_update(Digest *self, PyObject *data) { return update(self, data, take_blocks); }

static PyObject *sha256_digest(Sha256 *self, PyObject *Py_UNUSED(unused))
{
    if (refuse_if_busy(&self->digest))
        return NULL;
    uint8_t last[2 * BLOCK];
    uint32_t chain[WORDS];
    size_t blocks = padded(&self->digest, self->digest.size, last);
    for (int n = 0; n < 8; n++)
        last[blocks * BLOCK - 1 - n] = (uint8_t)(self->digest.size << 3 >> 8 * n);
    memcpy(chain, self->chain, sizeof chain);
    compress(chain, last, blocks);
    return written(chain);
}

static PyObject *sha256_state(Sha256 *self, PyObject *Py_UNUSED(unused))
{
    if (refuse_if_busy(&self->digest) || refuse_between_blocks(&self->digest))
        return NULL;
    return written(self->chain);
}

static PyMethodDef methods[] = {
    {"update", (PyCFunction)sha256_update, METH_O, "Take bytes."},
    {"digest", (PyCFunction)sha256_digest, METH_NOARGS, "Return the SHA-256 of all bytes so far."},
    {"state", (PyCFunction)sha256_state, METH_NOARGS, "Return what goes on from here, with the size so far."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The SHA-256 of a stream, and its state; for one thread at a time."},
    {Py_tp_new, sha256_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "sinks._sha256.Sha256",
    .basicsize = sizeof(Sha256),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static PyObject *use_instructions(PyObject *Py_UNUSED(module), PyObject *wanted)
{
    int used = 0;
#ifdef HAS_X86
    used = PyObject_IsTrue(wanted) == 1 && has_instructions();
    compress = used ? compress_by_instructions : compress_anywhere;
#else
    (void)wanted;
#endif
    return PyBool_FromLong(used);
}

static PyMethodDef functions[] = {
    {"use_instructions", use_instructions, METH_O,
     "Take the processor's instructions where it has some, as from the first, or not; return which."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_sha256",
    .m_doc = "SHA-256 that tells its state.",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__sha256(void)
{
#ifdef HAS_X86
    if (has_instructions())
        compress = compress_by_instructions;
#endif
    return module_with(&module, &spec, "Sha256");
}
