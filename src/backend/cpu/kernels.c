/* kernels.c: which table to use, and the one step of attention that needs no vector code. */
#include "config.h"

#include "backend/cpu/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined __x86_64__
/* __builtin_cpu_supports looks at the operating system's part (XCR0) too. */
static bool have_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool have_avx512(void)
{
    return have_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static bool always(void)
{
    return true;
}

/* Best first. */
static const struct {
    const struct kernels *kernels;
    bool (*runs_here)(void);
} tables[] = {
#ifdef HAVE_AVX512
    {&kernels_avx512, have_avx512},
#endif
#ifdef HAVE_AVX2
    {&kernels_avx2, have_avx2},
#endif
#ifdef HAVE_NEON
    {&kernels_neon, always}, /* part of AArch64 */
#endif
    {&kernels_scalar, always},
};

enum { N_TABLES = sizeof tables / sizeof tables[0] };

const struct kernels *kernels_choose(struct llama3_error *err)
{
    const char *wanted = getenv("LLAMA3_CPU");
    char known[64] = "";

    for (size_t i = 0; i < N_TABLES; i++) {
        if (!tables[i].runs_here())
            continue;
        if (wanted == NULL || wanted[0] == '\0' || strcmp(wanted, tables[i].kernels->name) == 0)
            return tables[i].kernels;
        strcat(strcat(known, " "), tables[i].kernels->name);
    }
    error_set(err, LLAMA3_EINPUT, "LLAMA3_CPU: expected one of:%s; found '%s'", known, wanted);
    return NULL;
}

void attention_reset(struct attention *state, size_t group, size_t head_dim)
{
    for (size_t g = 0; g < group; g++) {
        state->max[g] = -INFINITY;
        state->sum[g] = 0;
    }
    memset(state->acc, 0, group * head_dim * sizeof *state->acc);
}

void attention_merge(struct attention *whole, const struct attention *part, size_t group,
                     size_t head_dim)
{
    for (size_t g = 0; g < group; g++) {
        float max = fmaxf(whole->max[g], part->max[g]);
        float keep = expf(whole->max[g] - max), take = expf(part->max[g] - max);
        float *to = whole->acc + g * head_dim;
        const float *from = part->acc + g * head_dim;

        for (size_t d = 0; d < head_dim; d++)
            to[d] = to[d] * keep + from[d] * take;
        whole->sum[g] = whole->sum[g] * keep + part->sum[g] * take;
        whole->max[g] = max;
    }
}
