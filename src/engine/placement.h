/* SPDX-License-Identifier: MIT */
/*
 * placement.h: which backend runs which stages: the plan that --gpu-layers asks for, or the best
 * one that a device has the memory for.
 *
 * A device takes the end of the network: the head and the last layers, so that activations cross
 * over once in a pass. A byte of the head is read as often as one of a layer, so it comes first.
 * The embedding, of which a pass reads a few rows, stays on the CPU, until everything is on the
 * device and there is still room for it (a tied matrix is there already): then the CPU has no part
 * in a pass at all.
 */
#ifndef ENGINE_PLACEMENT_H
#define ENGINE_PLACEMENT_H

#include "engine/forward.h"

/* Rows of a pass, unless somebody names a number. */
enum {
    DEFAULT_CHUNK = 256,
    DEVICE_CHUNK = 1024 /* a device has more units to keep busy */
};

struct placement_request {
    int gpu_layers;                /* LLAMA3_GPU_*, or 1.. */
    bool kv_on_host;               /* attention runs on the CPU whoever runs the rest */
    int device;                    /* its number */
    bool bf16_prompt;              /* see backend_options */
    const struct backend_ops *ops; /* backend_device_ops(): NULL where there is none */
    size_t context;                /* positions of a sequence; 0: to be chosen, up to */
    size_t host_context;           /* so many where KV lies in the host's memory */
    size_t device_rows;            /* max_rows where a device has a part; 0: as the options say */
    size_t kv_pages;               /* to have room for; 0: those of one context */
    uint64_t reserve_bytes;        /* of the device's memory, for others */
};

struct placement {
    struct plan plan;
    struct llama3_memory
        memories[MAX_BACKENDS]; /* [plan.n_backends], their names still to be given */
    char note[256];             /* why there is no device in the plan, or "" */
    /* What the plan points to, so that a placement stays where it was made: */
    const struct backend_ops *backends[2];
    struct span spans[2 + 2 * MAX_LAYERS];
    char device_name[128];
};

/* Makes the plan; sets max_context, max_rows, backend.device and backend.bf16_prompt of the
 * options. -1 where what was asked for can't be had: the message has the numbers, and what to do.
 */
int placement_choose(struct placement *placement, const struct model *model,
                     struct forward_options *options, const struct placement_request *request,
                     struct llama3_error *err);

#endif
