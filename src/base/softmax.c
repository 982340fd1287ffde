/* SPDX-License-Identifier: MIT */
#include "base/softmax.h"

#include <math.h>

struct softmax softmax_of(const float *logits, size_t n)
{
    struct softmax s = {0};
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[s.top])
            s.top = i;
    double max = (double)logits[s.top];
    double sum = exp((double)logits[0] - max);
    for (size_t i = 1; i < n; i++)
        sum += exp((double)logits[i] - max);
    s.log_norm = max + log(sum);
    return s;
}

double softmax_divergence(const float *p, const struct softmax *ps, const float *q,
                          const struct softmax *qs, size_t n)
{
    double sum = 0, shift = ps->log_norm - qs->log_norm;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)p[i] - ps->log_norm) * ((double)p[i] - (double)q[i] - shift);
    return sum;
}
