/* Words taken apart into byte planes and put together again: planes.py compiled, with the same results to the byte.
 *
 * Plain C99 without Python's headers, called through ctypes (docs/adr/0021-compiled-kernels.md). The caller checks every
 * length before; nothing here allocates, keeps state, or fails. Words are little-endian, and native.py loads this on no
 * other machine. Loops are written so that compilers vectorise them.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* Samples of a plane: SAMPLE_RUNS runs of SAMPLE_LENGTH bytes, evenly spread; the whole plane where it is smaller. */
enum { SAMPLE_RUNS = 256, SAMPLE_LENGTH = 32, SYMBOLS = 256 };

enum { AS_IT_IS = 0, ROTATED = 1, ORDERED = 2 };

/* Parts of a block that are ordered side by side. */
enum { QUARTERS = 4 };

/* Raised with every change of a signature or of a result: a library left over from another release is not used. */
EXPORT int assay_planes_version(void) { return 2; }

/* One set of kernels per width. UNSIGNED is the word, PUT and GET say what lies in each plane. */
#define KERNELS(NAME, UNSIGNED, BITS, PUT, GET)                                                                        \
    static inline UNSIGNED load_##NAME(const uint8_t *from, size_t i) {                                                \
        UNSIGNED word;                                                                                                 \
        memcpy(&word, from + i * sizeof word, sizeof word);                                                            \
        return word;                                                                                                   \
    }                                                                                                                  \
    static inline void store_##NAME(uint8_t *into, size_t i, UNSIGNED word) {                                          \
        memcpy(into + i * sizeof word, &word, sizeof word);                                                            \
    }                                                                                                                  \
    static inline UNSIGNED folded_##NAME(UNSIGNED word, UNSIGNED base) {                                               \
        UNSIGNED difference = (UNSIGNED)(word - base);                                                                 \
        return (UNSIGNED)((UNSIGNED)(difference << 1) ^ (UNSIGNED)(0 - (difference >> (BITS - 1))));                   \
    }                                                                                                                  \
    static inline UNSIGNED unfolded_##NAME(UNSIGNED word, UNSIGNED base) {                                             \
        return (UNSIGNED)(((UNSIGNED)(word >> 1) ^ (UNSIGNED)(0 - (word & 1))) + base);                                \
    }                                                                                                                  \
    static inline unsigned key_##NAME(UNSIGNED base) { return (uint8_t)((UNSIGNED)(base << 1) >> (BITS - 8)); }        \
                                                                                                                       \
    static void split_##NAME(const uint8_t *restrict words, uint8_t *restrict planes, size_t n) {                      \
        for (size_t i = 0; i < n; i++) {                                                                               \
            UNSIGNED word = load_##NAME(words, i);                                                                     \
            PUT                                                                                                        \
        }                                                                                                              \
    }                                                                                                                  \
    static void split_rotated_##NAME(const uint8_t *restrict words, uint8_t *restrict planes, size_t n) {              \
        for (size_t i = 0; i < n; i++) {                                                                               \
            UNSIGNED word = load_##NAME(words, i);                                                                     \
            word = (UNSIGNED)((UNSIGNED)(word << 1) | (word >> (BITS - 1)));                                           \
            PUT                                                                                                        \
        }                                                                                                              \
    }                                                                                                                  \
    static void split_delta_##NAME(const uint8_t *restrict words, const uint8_t *restrict base,                        \
                                        uint8_t *restrict planes, size_t n) {                                          \
        for (size_t i = 0; i < n; i++) {                                                                               \
            UNSIGNED word = folded_##NAME(load_##NAME(words, i), load_##NAME(base, i));                                \
            PUT                                                                                                        \
        }                                                                                                              \
    }                                                                                                                  \
    static void join_##NAME(const uint8_t *const *from, uint8_t *restrict into, size_t n) {                            \
        PLANES_##BITS for (size_t i = 0; i < n; i++) store_##NAME(into, i, GET);                                       \
    }                                                                                                                  \
    static void join_rotated_##NAME(const uint8_t *const *from, uint8_t *restrict into, size_t n) {                    \
        PLANES_##BITS for (size_t i = 0; i < n; i++) {                                                                 \
            UNSIGNED word = GET;                                                                                       \
            store_##NAME(into, i, (UNSIGNED)((word >> 1) | (UNSIGNED)(word << (BITS - 1))));                           \
        }                                                                                                              \
    }                                                                                                                  \
    static void join_delta_##NAME(const uint8_t *const *from, const uint8_t *restrict base,                            \
                                       uint8_t *restrict into, size_t n) {                                             \
        PLANES_##BITS for (size_t i = 0; i < n; i++) store_##NAME(into, i, unfolded_##NAME(GET, load_##NAME(base, i)));\
    }                                                                                                                  \
    /* The base lies where the words go: one pointer for both, which may then not be called distinct. */               \
    static void join_in_place_##NAME(const uint8_t *const *from, uint8_t *restrict into, size_t n) {                   \
        PLANES_##BITS for (size_t i = 0; i < n; i++) store_##NAME(into, i, unfolded_##NAME(GET, load_##NAME(into, i)));\
    }                                                                                                                  \
    /* Whether planes give these words: every bit that differs is gathered, so that the loop has no branch. */         \
    static int match_##NAME(const uint8_t *const *from, const uint8_t *restrict words, size_t n) {                     \
        PLANES_##BITS UNSIGNED apart = 0;                                                                              \
        for (size_t i = 0; i < n; i++) apart |= (UNSIGNED)(GET ^ load_##NAME(words, i));                               \
        return !apart;                                                                                                 \
    }                                                                                                                  \
    static int match_rotated_##NAME(const uint8_t *const *from, const uint8_t *restrict words, size_t n) {             \
        PLANES_##BITS UNSIGNED apart = 0;                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                               \
            UNSIGNED word = GET;                                                                                       \
            word = (UNSIGNED)((word >> 1) | (UNSIGNED)(word << (BITS - 1)));                                           \
            apart |= (UNSIGNED)(word ^ load_##NAME(words, i));                                                         \
        }                                                                                                              \
        return !apart;                                                                                                 \
    }                                                                                                                  \
    static int match_delta_##NAME(const uint8_t *const *from, const uint8_t *restrict base,                            \
                                       const uint8_t *restrict words, size_t n) {                                      \
        PLANES_##BITS UNSIGNED apart = 0;                                                                              \
        for (size_t i = 0; i < n; i++)                                                                                 \
            apart |= (UNSIGNED)(unfolded_##NAME(GET, load_##NAME(base, i)) ^ load_##NAME(words, i));                   \
        return !apart;                                                                                                 \
    }                                                                                                                  \
    /* Where the words of each key go, when sorted by the key of the base's word in the same place. Each quarter of the\
     * words has a table of its own: the quarters then advance side by side, and none waits for another's counter. */  \
    static void starts_##NAME(const uint8_t *base, size_t n, uint32_t next[QUARTERS][SYMBOLS]) {                       \
        size_t quarter = n / QUARTERS;                                                                                 \
        uint32_t at = 0;                                                                                               \
        memset(next, 0, QUARTERS * sizeof *next);                                                                      \
        for (size_t j = 0; j < quarter; j++)                                                                           \
            for (size_t k = 0; k < QUARTERS; k++) next[k][key_##NAME(load_##NAME(base, k * quarter + j))]++;           \
        for (size_t j = QUARTERS * quarter; j < n; j++) next[QUARTERS - 1][key_##NAME(load_##NAME(base, j))]++;        \
        for (int key = 0; key < SYMBOLS; key++)                                                                        \
            for (int k = 0; k < QUARTERS; k++) {                                                                       \
                uint32_t count = next[k][key];                                                                         \
                next[k][key] = at;                                                                                     \
                at += count;                                                                                           \
            }                                                                                                          \
    }                                                                                                                  \
    static inline void put_one_##NAME(const uint8_t *restrict words, const uint8_t *restrict base,                     \
                                      uint8_t *restrict planes, size_t n, size_t j, uint32_t *restrict next) {         \
        UNSIGNED other = load_##NAME(base, j), word = folded_##NAME(load_##NAME(words, j), other);                     \
        size_t i = next[key_##NAME(other)]++;                                                                          \
        PUT                                                                                                            \
    }                                                                                                                  \
    static void split_ordered_##NAME(const uint8_t *words, const uint8_t *base, uint8_t *planes, size_t n) {           \
        uint32_t next[QUARTERS][SYMBOLS];                                                                              \
        size_t quarter = n / QUARTERS;                                                                                 \
        starts_##NAME(base, n, next);                                                                                  \
        for (size_t j = 0; j < quarter; j++)                                                                           \
            for (size_t k = 0; k < QUARTERS; k++) put_one_##NAME(words, base, planes, n, k * quarter + j, next[k]);    \
        for (size_t j = QUARTERS * quarter; j < n; j++)                                                                \
            put_one_##NAME(words, base, planes, n, j, next[QUARTERS - 1]);                                             \
    }                                                                                                                  \
    static inline void get_one_##NAME(const uint8_t *const *restrict from, const uint8_t *base, uint8_t *into,         \
                                      size_t j, uint32_t *restrict next) {                                             \
        PLANES_##BITS UNSIGNED other = load_##NAME(base, j);                                                           \
        size_t i = next[key_##NAME(other)]++;                                                                          \
        store_##NAME(into, j, unfolded_##NAME(GET, other));                                                            \
    }                                                                                                                  \
    static void join_ordered_##NAME(const uint8_t *const *from, const uint8_t *base, uint8_t *into, size_t n) {        \
        uint32_t next[QUARTERS][SYMBOLS];                                                                              \
        size_t quarter = n / QUARTERS;                                                                                 \
        starts_##NAME(base, n, next);                                                                                  \
        for (size_t j = 0; j < quarter; j++)                                                                           \
            for (size_t k = 0; k < QUARTERS; k++) get_one_##NAME(from, base, into, k * quarter + j, next[k]);          \
        for (size_t j = QUARTERS * quarter; j < n; j++) get_one_##NAME(from, base, into, j, next[QUARTERS - 1]);       \
    }                                                                                                                  \
    static inline UNSIGNED apart_one_##NAME(const uint8_t *const *restrict from, const uint8_t *base,                  \
                                            const uint8_t *words, size_t j, uint32_t *restrict next) {                 \
        PLANES_##BITS UNSIGNED other = load_##NAME(base, j);                                                           \
        size_t i = next[key_##NAME(other)]++;                                                                          \
        return (UNSIGNED)(unfolded_##NAME(GET, other) ^ load_##NAME(words, j));                                        \
    }                                                                                                                  \
    static int match_ordered_##NAME(const uint8_t *const *from, const uint8_t *base, const uint8_t *words, size_t n) { \
        uint32_t next[QUARTERS][SYMBOLS];                                                                              \
        size_t quarter = n / QUARTERS;                                                                                 \
        UNSIGNED apart = 0;                                                                                            \
        starts_##NAME(base, n, next);                                                                                  \
        for (size_t j = 0; j < quarter; j++)                                                                           \
            for (size_t k = 0; k < QUARTERS; k++)                                                                      \
                apart |= apart_one_##NAME(from, base, words, k * quarter + j, next[k]);                                \
        for (size_t j = QUARTERS * quarter; j < n; j++)                                                                \
            apart |= apart_one_##NAME(from, base, words, j, next[QUARTERS - 1]);                                       \
        return !apart;                                                                                                 \
    }                                                                                                                  \
    static void split_any_##NAME(const uint8_t *words, const uint8_t *base, uint8_t *planes, size_t n, int how) {      \
        if (base && how == ORDERED) split_ordered_##NAME(words, base, planes, n);                                      \
        else if (base) split_delta_##NAME(words, base, planes, n);                                                     \
        else if (how == ROTATED) split_rotated_##NAME(words, planes, n);                                               \
        else split_##NAME(words, planes, n);                                                                           \
    }                                                                                                                  \
    static void join_any_##NAME(const uint8_t *const *from, const uint8_t *base, uint8_t *into, size_t n, int how) {   \
        if (base && how == ORDERED) join_ordered_##NAME(from, base, into, n);                                          \
        else if (base == into) join_in_place_##NAME(from, into, n);                                                    \
        else if (base) join_delta_##NAME(from, base, into, n);                                                         \
        else if (how == ROTATED) join_rotated_##NAME(from, into, n);                                                   \
        else join_##NAME(from, into, n);                                                                               \
    }                                                                                                                  \
    static int match_any_##NAME(const uint8_t *const *from, const uint8_t *base, const uint8_t *words, size_t n,       \
                                int how) {                                                                             \
        if (base && how == ORDERED) return match_ordered_##NAME(from, base, words, n);                                 \
        if (base) return match_delta_##NAME(from, base, words, n);                                                     \
        if (how == ROTATED) return match_rotated_##NAME(from, words, n);                                               \
        return match_##NAME(from, words, n);                                                                           \
    }

#define PLANES_8 const uint8_t *restrict p0 = from[0];
#define PLANES_16 PLANES_8 const uint8_t *restrict p1 = from[1];
#define PLANES_32 PLANES_16 const uint8_t *restrict p2 = from[2], *restrict p3 = from[3];
#define PLANES_64                                                                                                      \
    PLANES_32 const uint8_t *restrict p4 = from[4], *restrict p5 = from[5], *restrict p6 = from[6],                    \
                            *restrict p7 = from[7];

#define PUT_8 planes[i] = (uint8_t)word; (void)n;
#define PUT_16 PUT_8 planes[n + i] = (uint8_t)(word >> 8);
#define PUT_32 PUT_16 planes[2 * n + i] = (uint8_t)(word >> 16); planes[3 * n + i] = (uint8_t)(word >> 24);
#define PUT_64                                                                                                         \
    PUT_32 planes[4 * n + i] = (uint8_t)(word >> 32); planes[5 * n + i] = (uint8_t)(word >> 40);                       \
    planes[6 * n + i] = (uint8_t)(word >> 48); planes[7 * n + i] = (uint8_t)(word >> 56);

#define GET_8 p0[i]
#define GET_16 (uint16_t)(p0[i] | (uint16_t)(p1[i] << 8))
#define GET_32 (p0[i] | (uint32_t)p1[i] << 8 | (uint32_t)p2[i] << 16 | (uint32_t)p3[i] << 24)
#define GET_64                                                                                                         \
    ((uint64_t)GET_32 | (uint64_t)(p4[i] | (uint32_t)p5[i] << 8 | (uint32_t)p6[i] << 16 | (uint32_t)p7[i] << 24) << 32)

KERNELS(bytes, uint8_t, 8, PUT_8, GET_8)
KERNELS(halves, uint16_t, 16, PUT_16, GET_16)
KERNELS(words, uint32_t, 32, PUT_32, GET_32)
KERNELS(longs, uint64_t, 64, PUT_64, GET_64)

/* Take n words of the given width apart, into planes of n bytes each, one after the other. */
EXPORT void assay_split(const uint8_t *words, const uint8_t *base, uint8_t *planes, size_t n, int width, int how) {
    switch (width) {
    case 1: split_any_bytes(words, base, planes, n, how); break;
    case 2: split_any_halves(words, base, planes, n, how); break;
    case 4: split_any_words(words, base, planes, n, how); break;
    case 8: split_any_longs(words, base, planes, n, how); break;
    default: break;
    }
}

/* Put n words together; the base may be where they go, and then lies there already. */
EXPORT void assay_join(const uint8_t *const *planes, const uint8_t *base, uint8_t *into, size_t n, int width, int how) {
    switch (width) {
    case 1: join_any_bytes(planes, base, into, n, how); break;
    case 2: join_any_halves(planes, base, into, n, how); break;
    case 4: join_any_words(planes, base, into, n, how); break;
    case 8: join_any_longs(planes, base, into, n, how); break;
    default: break;
    }
}

/* Whether planes, put together, give n words. */
EXPORT int assay_match(const uint8_t *const *planes, const uint8_t *base, const uint8_t *words, size_t n, int width,
                       int how) {
    switch (width) {
    case 1: return match_any_bytes(planes, base, words, n, how);
    case 2: return match_any_halves(planes, base, words, n, how);
    case 4: return match_any_words(planes, base, words, n, how);
    case 8: return match_any_longs(planes, base, words, n, how);
    default: return 0;
    }
}

/* Look at planes of n bytes each: which are one byte throughout (a bit per plane), and for the others how often each
 * byte occurs in a sample. */
EXPORT unsigned assay_survey(const uint8_t *planes, size_t n, int width, uint32_t *counts) {
    unsigned constant = 0;
    memset(counts, 0, (size_t)width * SYMBOLS * sizeof *counts);
    for (int number = 0; number < width; number++, planes += n, counts += SYMBOLS) {
        if (n && !memcmp(planes, planes + 1, n - 1)) {
            constant |= 1u << number;
            continue;
        }
        uint32_t tables[4][SYMBOLS]; /* one counter would wait for itself where neighbours are alike */
        memset(tables, 0, sizeof tables);
        size_t runs = n < SAMPLE_RUNS * SAMPLE_LENGTH ? 1 : SAMPLE_RUNS;
        size_t length = runs == 1 ? n : SAMPLE_LENGTH, step = n / runs;
        for (size_t run = 0; run < runs; run++)
            for (size_t i = 0; i < length; i++) tables[i & 3][planes[run * step + i]]++;
        for (int k = 0; k < 4; k++)
            for (int symbol = 0; symbol < SYMBOLS; symbol++) counts[symbol] += tables[k][symbol];
    }
    return constant;
}
