/* SPDX-License-Identifier: MIT */
/* schema_reach.c: looks ahead into what values of a schema may contain, for what can't be held. */
#include "config.h"

#include <stdlib.h>

#include "base/size.h"
#include "grammar/schema.h"

/* Exprs in the order in which they are met. */
struct exprs_met {
    expr *all; /* [n] */
    size_t n, room;
    uint64_t *seen; /* [n_words] a bit for each expr */
    size_t n_words;
    bool failed; /* no memory */
};

static void reach(struct exprs_met *r, expr e)
{
    size_t word = e / 64;
    if (word >= r->n_words) {
        size_t n = word * 2 + 16;
        uint64_t *seen = realloc(r->seen, n * sizeof *seen);
        if (seen == NULL) {
            r->failed = true;
            return;
        }
        for (size_t i = r->n_words; i < n; i++)
            seen[i] = 0;
        r->seen = seen;
        r->n_words = n;
    }
    if ((r->seen[word] >> e % 64 & 1) != 0)
        return;
    r->seen[word] |= UINT64_C(1) << e % 64;
    if (r->n == r->room) {
        size_t room = r->room * 2 + 64;
        expr *all = realloc(r->all, room * sizeof *all);
        if (all == NULL) {
            r->failed = true;
            return;
        }
        r->all = all;
        r->room = room;
    }
    r->all[r->n++] = e;
}

static void reach_parts(struct exprs_met *r, const struct value *v)
{
    for (uint32_t i = 0; i < v->n_arrays; i++) {
        const struct array_shape *shape = v->arrays[i];
        for (uint32_t j = 0; j < shape->n_prefix; j++)
            reach(r, shape->prefix[j]);
        reach(r, shape->rest);
    }
    for (uint32_t i = 0; i < v->n_objects; i++) {
        const struct object_shape *shape = v->objects[i];
        for (uint32_t j = 0; j < shape->n_properties; j++)
            reach(r, shape->properties[j].value);
        for (uint32_t j = 0; j < shape->n_classes; j++)
            reach(r, shape->classes[j].value);
    }
}

int schema_reach(struct schemas *all, expr e, size_t most, struct llama3_error *err)
{
    struct exprs_met r = {0};
    int status = 0;
    reach(&r, e);
    for (size_t i = 0; i < r.n && i < most && status == 0 && !r.failed; i++) {
        const struct value *v = schema_value(all, r.all[i], err);
        status = v == NULL ? -1 : 0;
        if (v != NULL)
            reach_parts(&r, v);
    }
    if (status == 0 && r.failed)
        status = error_memory(err, "a schema", r.n * sizeof *r.all);
    free(r.all);
    free(r.seen);
    return status;
}
