/* SPDX-License-Identifier: MIT */
/*
 * levels.c: codes that stand for floats, as the int8 levels of strips.
 *
 * A table of 16 (NF4, FP4) becomes a codebook: the numbers times the factor that rounding hurts the
 * least. FP8 (E4M3) becomes int8: the scale of a group of 32 is a power of two that takes its
 * largest weight to 64..120. So weights down to an eighth of that are exact, and smaller ones are
 * rounded to the step of those.
 */
#include <math.h>
#include <string.h>

#include "quant/matrix.h"

/* ---- tables ---------------------------------------------------------------------------------- */

static double round_table(const float table[16], double factor, int8_t codebook[16])
{
    double error = 0;
    for (int i = 0; i < 16; i++) {
        double level = rint((double)table[i] * factor);
        double off = level / factor - (double)table[i];
        codebook[i] = (int8_t)level;
        error += off * off;
    }
    return error;
}

float table_levels(const float table[16], int8_t codebook[16])
{
    double largest = 0, least = INFINITY;
    int best = 1;
    for (int i = 0; i < 16; i++) {
        double magnitude = fabs((double)table[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    if (!(largest > 0))
        largest = 1;
    for (int top = 1; top <= 127; top++) {
        double error = round_table(table, top / largest, codebook);
        if (error < least) { /* the smallest of equal ones */
            least = error;
            best = top;
        }
    }
    round_table(table, best / largest, codebook);
    return (float)(largest / best);
}

/* ---- FP8 ------------------------------------------------------------------------------------- */

/* Weights are multiples of 2^-9, and below this exponent (biased by 7) all of them are exact. */
enum { LEAST_EXPONENT = 4, SHIFTS = 12, NAN_CODE = 127 };

struct levels {
    int8_t of[SHIFTS][256]; /* codes as multiples of 2^(shift - 9), rounded to even */
};

static void make_levels(struct levels *levels)
{
    for (int shift = 0; shift < SHIFTS; shift++)
        for (int code = 0; code < NAN_CODE; code++) {
            int exponent = code >> 3, fraction = code & 7;
            int value = exponent == 0 ? fraction : (8 + fraction) << (exponent - 1);
            int half = shift > 0 ? (1 << shift >> 1) - 1 + (value >> shift & 1) : 0;
            int level = (value + half) >> shift;
            level = level < 127 ? level : 127; /* of codes above the group's largest */
            levels->of[shift][code] = (int8_t)level;
            levels->of[shift][code + 128] = (int8_t)-level;
        }
}

static inline int shift_of(const uint8_t *codes, size_t n, bool *nan)
{
    uint8_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t magnitude = codes[i] & 127;
        largest = magnitude > largest ? magnitude : largest;
    }
    *nan = largest == NAN_CODE;
    return largest >> 3 > LEAST_EXPONENT ? (largest >> 3) - LEAST_EXPONENT : 0;
}

/* Codes [n] of a lane's group, and its f16 scale, which becomes that of a level. A NaN makes all of
 * the group NaN. */
static inline __attribute__((always_inline)) void take_group(const struct levels *levels,
                                                             const uint8_t *codes, size_t n,
                                                             uint8_t *out, uint8_t *scale)
{
    bool nan;
    int shift = shift_of(codes, n, &nan);
    const int8_t *level = levels->of[shift];
    float factor = f32_from_bits((uint32_t)(127 + shift) << 23);
    uint16_t half = nan ? 0x7e00 : f32_to_f16(load_f16(scale) * factor);
    memcpy(scale, &half, sizeof half);
    for (size_t i = 0; i < n; i += 4) {
        uint32_t word = 0;
        for (size_t j = 0; j < 4 && i + j < n; j++)
            word |= (uint32_t)(uint8_t)level[codes[i + j]] << 8 * j;
        memcpy(out + i * 16, &word, sizeof word);
    }
}

void float8_repack(const struct matrix *m, size_t first, size_t n, const struct strip_layout *l,
                   void *strips)
{
    struct levels levels = {0};
    make_levels(&levels);
    uint8_t *strip = strips;
    for (size_t row = first, end = first + n; row < end; row += STRIP, strip += l->bytes)
        for (size_t group = 0; group < l->groups; group++) {
            size_t col = group * GROUP, left = m->cols - col;
            const uint8_t *codes = m->parts->codes.data + row * m->cols + col;
            uint8_t *out = strip + l->codes + group * (GROUP / 4 * 64);
            uint8_t *scale = strip + l->scales + group * STRIP * 2;
            for (size_t lane = 0; lane < STRIP && row + lane < end; lane++, codes += m->cols)
                if (left >= GROUP)
                    take_group(&levels, codes, GROUP, out + lane * 4, scale + lane * 2);
                else
                    take_group(&levels, codes, left, out + lane * 4, scale + lane * 2);
        }
}
