/* SPDX-License-Identifier: MIT */
/* schema.c: opening and closing. */
#include "grammar/schema.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "grammar/schema_parts.h"

static int prepare(struct schemas *all)
{
    static const char canonical[] = "-?(?:0|[1-9][0-9]*)(?:\\.[0-9]*[1-9])?";
    struct llama3_error err = {0};
    struct regexes *regexes = all->regexes;
    all->number_all = regex_number(regexes, false);
    all->string_all = regex_text(regexes, 0, UINT32_MAX);
    all->integers = regex_integer_value(regexes);
    all->integer_text = regex_integer_text(regexes);
    regex any = regex_parse(regexes, canonical, sizeof canonical - 1, REGEX_WHOLE, &err);
    all->canonical = regex_and(regexes, any, regex_not(regexes, regex_literal(regexes, "-0", 2)));
    all->lowest = UINT32_MAX;
    hash_key_init(&all->key);
    for (enum expr_kind kind = X_FALSE; kind <= X_TRUE; kind++) {
        if (schema_grow(all, &all->exprs, all->n_exprs, &all->exprs_room, sizeof *all->exprs) != 0)
            return -1;
        all->exprs[all->n_exprs++] =
            (struct expr_node){.kind = kind, .satisfiable = kind == X_TRUE};
    }
    return schema_work(all, 1);
}

struct schemas *schemas_open(struct regexes *regexes, json_t *root, struct llama3_error *err)
{
    struct schemas *all = size_alloc_for(1, sizeof *all, "a schema", err);
    if (all == NULL)
        return NULL;
    all->regexes = regexes;
    all->root = json_incref(root);
    if (prepare(all) != 0 || schema_document(all) != 0) {
        error_copy(err, &all->error);
        schemas_close(all);
        return NULL;
    }
    return all;
}

void schemas_close(struct schemas *all)
{
    if (all == NULL)
        return;
    void *const memory[] = {
        all->nodes,
        all->resources,
        all->uris,
        all->uri_nodes,
        all->names,
        all->exprs,
        all->constants,
        all->constant_texts,
        all->atoms,
        all->object_covers,
        all->array_covers,
        all->object_keys,
        all->array_keys,
        all->by_json.slots,
        all->by_uri.slots,
        all->by_name.slots,
        all->by_expr.slots,
        all->by_constant.slots,
        all->by_atom.slots,
        all->by_object_key.slots,
        all->by_array_key.slots,
    };
    for (uint32_t i = 0; i < all->n_constants; i++)
        json_decref(all->constants[i].json);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
    arena_free(&all->kept);
    arena_free(&all->scratch);
    json_decref(all->root);
    free(all);
}

expr schemas_root(const struct schemas *all)
{
    /* The node's expr is made on demand, which changes nothing that callers see. */
    return schema_leaf((struct schemas *)all, all->root);
}
