/* SPDX-License-Identifier: MIT */
/*
 * placement.h: which backend runs which stages: the plan that --gpu-layers asks for, or the best
 * one that a device has the memory for.
 *
 * A device takes the end of the network, so that activations are copied once in a pass. The head
 * comes first, as a byte of it is read as often as one of a layer, then the last layers. A pass
 * reads only a few rows of the embedding, so that stays on the CPU until all the rest is on the
 * device and there is still room (a tied matrix is there already). Then the device runs whole
 * passes.
 */
#ifndef ENGINE_PLACEMENT_H
#define ENGINE_PLACEMENT_H

#include "engine/forward.h"

/* Default rows of a pass. */
enum {
    DEFAULT_CHUNK = 256,
    DEVICE_CHUNK = 1024 /* a device has more units to keep busy */
};

struct placement_request {
    int gpu_layers;                /* LLAMA3_GPU_*, or 1.. */
    bool kv_on_host;               /* attention runs on the CPU in any case */
    int device;                    /* its number */
    bool bf16_prompt;              /* see backend_options */
    const struct backend_ops *ops; /* backend_device_ops(): NULL where there is none */
    size_t context;                /* positions of a sequence; 0: the most that fit, */
    uint64_t host_kv_bytes;        /* up to these where KV is in the host's memory */
    enum llama3_kv_type kv_type;
    size_t device_rows;     /* max_rows if a device is used; 0: as the options say */
    size_t kv_pages;        /* that must fit; 0: those of one context */
    uint64_t reserve_bytes; /* of the device's memory, left free */
};

struct placement {
    struct plan plan;
    struct llama3_memory
        memories[MAX_BACKENDS]; /* [plan.n_backends], their names still to be given */
    char note[256];             /* why there is no device in the plan, or "" */
    /* The plan points to these, so a placement must not be moved: */
    const struct backend_ops *backends[2];
    struct span spans[2 + 2 * MAX_LAYERS];
    char device_name[128];
};

/* Makes the plan; sets max_context, max_rows, kv_type, backend.device and backend.bf16_prompt of
 * the options. -1 if the request can't be met: the message has the numbers, and what to do. */
int placement_choose(struct placement *placement, const struct model *model,
                     struct forward_options *options, const struct placement_request *request,
                     struct llama3_error *err);

#endif
