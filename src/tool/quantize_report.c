/* SPDX-License-Identifier: MIT */
#include "tool/quantize_report.h"

#include <stdio.h>

#include "tool/say.h"

static double bits(uint64_t bytes, uint64_t weights)
{
    return weights > 0 ? 8 * (double)bytes / (double)weights : 0;
}

void quantize_report(FILE *out, const struct model *model, const struct convert_report *report,
                     const char *path)
{
    static const enum part_kind order[] = {PART_Q,  PART_K,    PART_V,     PART_O,   PART_GATE,
                                           PART_UP, PART_DOWN, PART_EMBED, PART_HEAD};
    char size[UNIT_SIZE], count[UNIT_SIZE];
    uint64_t layer_bytes = 0, layer_weights = 0, carried = 0;
    for (size_t kind = 0; kind < PART_COUNT; kind++)
        if (part_is_layers((enum part_kind)kind)) {
            layer_bytes += report->kinds[kind].bytes;
            layer_weights += report->kinds[kind].weights;
        }
    fprintf(out, "%-13s", "made");
    say_name(out, path);
    putc('\n', out);
    fprintf(out, "%-13s%s, %s parameters\n", "size", unit_bytes(size, report->file_bytes),
            unit_count(count, model->parameters));
    fprintf(out, "%-13s%.3f all in, %.3f of the layers' matrices\n", "bits/weight",
            bits(report->file_bytes, model->parameters), bits(layer_bytes, layer_weights));
    fprintf(out, "%-13s%-6s %11s %14s\n", "matrices", "type", "bits/weight", "relative error");
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const struct convert_kind *kind = &report->kinds[order[i]];
        carried += kind->carried;
        if (kind->weights == 0)
            continue;
        fprintf(out, "  %-11s%-6s %11.3f ", part_kind_name(order[i]), dtype_info(kind->type)->name,
                bits(kind->bytes, kind->weights));
        if (kind->carried == kind->weights)
            fprintf(out, "%14s\n", "carried over");
        else
            fprintf(out, "%14.6f\n", kind->norm > 0 ? kind->error / kind->norm : 0);
    }
    if (carried > 0)
        fprintf(out, "%-13s%s weights, in the checkpoint's codes\n", "carried over",
                unit_count(count, carried));
    if (model->config.tied)
        fputs("  the head is the embedding\n", out);
}

void quantize_report_gain(FILE *out, size_t tokens, const struct gain *gain)
{
    fprintf(out, "%-13son %zu tokens: KL %.2g (%.2g without)\n", "calibrated", tokens, gain->kl,
            gain->plain_kl);
}
