/* SPDX-License-Identifier: MIT */
/* kernels.c: chooses a table: the best that was built and that this CPU can run. */
#include "config.h"

#include "backend/cpu/kernels.h"

#ifdef HAVE_AVXVNNI
#include <cpuid.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_DOTPROD
#include <sys/auxv.h>
#endif

/* The builtins also check that the operating system saves the registers. */
#ifdef HAVE_AVX512
static bool runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef HAVE_AVX512BF16
static bool runs_avx512bf16(void)
{
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

/* Intel's cores multiply bf16 no faster than f32, AMD's twice as fast: only there is it worth
 * rounding activations. */
static bool gains_by_avx512bf16(void)
{
    return runs_avx512bf16() && !__builtin_cpu_is("intel");
}

static bool only_runs_avx512bf16(void)
{
    return runs_avx512bf16() && !gains_by_avx512bf16();
}
#endif

#ifdef HAVE_AVX2
/* F16C came before AVX2; clang 14 does not know its name here. */
static bool runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#ifdef HAVE_AVXVNNI
/* CPUID 7.1:EAX[4] (Intel's manual, volume 2A); neither compiler of Debian 12 has a name for it. */
static bool runs_avxvnni(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return runs_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

#ifdef HAVE_AVX512VL
static bool runs_avx512vl(void)
{
    return runs_avx2() && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef HAVE_DOTPROD
static bool runs_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

static bool runs_everywhere(void)
{
    return true;
}

static const struct {
    const struct kernels *kernels;
    bool (*runs)(void);
} tables[] = {/* best first */
#ifdef HAVE_AVX512BF16
              {&kernels_avx512bf16, gains_by_avx512bf16},
#endif
#ifdef HAVE_AVX512
              {&kernels_avx512, runs_avx512},
#endif
#ifdef HAVE_AVXVNNI
              {&kernels_avxvnni, runs_avxvnni},
#endif
#ifdef HAVE_AVX2
              {&kernels_avx2, runs_avx2},
#endif
#ifdef HAVE_DOTPROD
              {&kernels_dotprod, runs_dotprod},
#endif
#ifdef HAVE_NEON
              {&kernels_neon, runs_everywhere},
#endif
              {&kernels_scalar, runs_everywhere},
/* By name alone: */
#ifdef HAVE_AVX512BF16
              {&kernels_avx512bf16, only_runs_avx512bf16},
#endif
#ifdef HAVE_AVX512VL
              {&kernels_avx512vl, runs_avx512vl},
#endif
              {&kernels_scalar_int8, runs_everywhere}};

enum { N_TABLES = sizeof tables / sizeof tables[0] };

const struct kernels *kernels_choose(struct llama3_error *err)
{
    const char *wanted = getenv("LLAMA3_CPU");
    char possible[128] = "";

    for (size_t i = 0; i < N_TABLES; i++) {
        if (!tables[i].runs())
            continue;
        if (wanted == NULL || strcmp(wanted, tables[i].kernels->name) == 0)
            return tables[i].kernels;
        size_t length = strlen(possible);
        snprintf(possible + length, sizeof possible - length, "%s%s", length > 0 ? ", " : "",
                 tables[i].kernels->name);
    }
    error_input(err, "LLAMA3_CPU: expected one of: %s; found \"%s\"", possible, wanted);
    return NULL;
}
