/* SPDX-License-Identifier: MIT */
#include "engine/convert_pace.h"

/* With 4,100 tokens of calibration, a byte of the 8B's embedding and head took a 16th of the time
 * of a byte of its layers. The difference is smaller with fewer tokens. */
enum { LIGHTER = 10 };

static uint64_t weigh(const struct convert_pace *pace, bool in_layer, uint64_t bytes)
{
    return pace->calibrates && !in_layer ? bytes / LIGHTER : bytes;
}

void convert_pace_add(struct convert_pace *pace, bool in_layer, uint64_t bytes)
{
    pace->total += weigh(pace, in_layer, bytes);
}

/* For the first layer, the share is taken to be a half. */
void convert_pace_layer(struct convert_pace *pace, uint64_t bytes, double now)
{
    if (pace->measured > 0 && now > pace->began)
        pace->share = (pace->measured - pace->began) / (now - pace->began);
    else
        pace->share = 0.5;
    pace->before = pace->done;
    pace->bytes = bytes;
    pace->rows = 0;
    pace->began = now;
    pace->measured = 0;
}

void convert_pace_measured(struct convert_pace *pace, double now)
{
    pace->measured = now;
    pace->done = pace->before + (uint64_t)(pace->share * (double)pace->bytes);
}

void convert_pace_rows(struct convert_pace *pace, bool in_layer, uint64_t bytes)
{
    if (!in_layer || pace->measured == 0) {
        convert_pace_found(pace, in_layer, bytes);
        return;
    }
    pace->rows += bytes;
    pace->done =
        pace->before + pace->rows + (uint64_t)(pace->share * (double)(pace->bytes - pace->rows));
}

void convert_pace_found(struct convert_pace *pace, bool in_layer, uint64_t bytes)
{
    pace->done += weigh(pace, in_layer, bytes);
}
