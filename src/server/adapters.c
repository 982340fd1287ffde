/* SPDX-License-Identifier: MIT */
/*
 * adapters.c: which adapters a request uses. It names one as its model, as with vLLM, or lists them
 * with their scales, as with llama.cpp; else it gets those that were given without a name.
 */
#include <string.h>

#include "server/server.h"

int adapters_find(const struct server *s, const char *id)
{
    const struct llama3_info *info = llama3_model_info(s->model);
    size_t n = strlen(s->model_id);
    if (strncmp(id, s->model_id, n) == 0 && id[n] == ':')
        id += n + 1;
    for (size_t i = 0; i < info->n_adapters; i++)
        if (strcmp(info->adapters[i]->name, id) == 0)
            return (int)i;
    return -1;
}

/* The adapter that an item of the list means; -1: none. */
static int find_listed(const struct llama3_info *info, const json_t *item)
{
    const json_t *id = json_object_get(item, "id");
    const char *name = json_string_value(json_object_get(item, "name"));
    for (size_t i = 0; i < info->n_adapters; i++)
        if (name != NULL ? strcmp(info->adapters[i]->name, name) == 0
                         : json_integer_value(id) == (json_int_t)i)
            return (int)i;
    return -1;
}

/* Those of the list, and no others. */
static int take_list(const struct llama3_info *info, const json_t *list, float *scales,
                     struct api_error *err)
{
    bool seen[MAX_ADAPTERS] = {false};
    memset(scales, 0, MAX_ADAPTERS * sizeof *scales);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *scale = json_object_get(item, "scale");
        const json_t *name = json_object_get(item, "name");
        int at = find_listed(info, item);
        if (at < 0 && json_is_string(name))
            return api_error_set(err, 400, NULL, "lora",
                                 "request: \"lora\": expected adapters of /lora-adapters, found "
                                 "the name \"%.80s\"",
                                 json_string_value(name));
        if (at < 0)
            return api_error_set(err, 400, NULL, "lora",
                                 "request: \"lora\": expected adapters of /lora-adapters, found "
                                 "the id %" JSON_INTEGER_FORMAT,
                                 json_integer_value(json_object_get(item, "id")));
        if (seen[at])
            return api_error_set(err, 400, NULL, "lora",
                                 "request: \"lora\": expected each adapter once, found one twice");
        seen[at] = true;
        scales[at] = (float)(scale != NULL ? json_number_value(scale) : info->adapters[at]->scale);
        scales[at] += 0.0F; /* -0 is 0 */
    }
    return 0;
}

int adapters_choose(const struct server *s, const struct api_request *r, float scales[MAX_ADAPTERS],
                    const char **model_id, struct api_error *err)
{
    const struct llama3_info *info = llama3_model_info(s->model);
    const char *id = json_string_value(r->model);
    int named = id != NULL ? adapters_find(s, id) : -1;
    *model_id = s->model_id;
    memcpy(scales, s->scales, sizeof s->scales);
    if (named >= 0 && r->lora != NULL)
        return api_error_set(err, 400, NULL, "lora",
                             "request: \"lora\": has no meaning with an adapter as the model");
    if (named >= 0) {
        memset(scales, 0, sizeof s->scales);
        scales[named] = (float)info->adapters[named]->scale;
        *model_id = info->adapters[named]->name;
    }
    return r->lora != NULL ? take_list(info, r->lora, scales, err) : 0;
}
