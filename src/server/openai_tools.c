/* SPDX-License-Identifier: MIT */
/* openai_tools.c: the tools of a request, which of them may be called, and calls in its messages.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/openai_parts.h"

enum { MAX_NAME = 64 };

/* A name as the API has it. */
static bool is_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= MAX_NAME &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

/* ---- tools ----------------------------------------------------------------------------------- */

static int check_tool(const struct parser *p, const char *name, const json_t *tool)
{
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *function = json_object_get(tool, "function");
    const json_t *parameters = json_object_get(function, "parameters");
    const json_t *strict = json_object_get(function, "strict");
    const char *called = json_string_value(json_object_get(function, "name"));
    if (!json_is_object(tool))
        return parser_mismatch(p, name, "objects", tool);
    if (type == NULL || strcmp(type, "function") != 0)
        return parser_refuse(p, "unsupported_parameter", name,
                             "expected tools of type \"function\", found another");
    if (called == NULL || !is_name(called))
        return parser_refuse(p, NULL, name,
                             "expected functions with a name of 1 to %d letters, digits, \"_\", "
                             "\"-\" and \".\", found another",
                             MAX_NAME);
    if (parameters != NULL && !json_is_null(parameters) && !json_is_object(parameters))
        return parser_mismatch(p, name, "\"parameters\" that are an object", parameters);
    if (json_is_true(strict))
        return parser_refuse(p, "unsupported_parameter", name, "\"strict\" is not supported");
    return 0;
}

/* [] means none to clients, unlike to transformers. */
int parser_tools(const struct parser *p, const char *name, const json_t *value)
{
    if (!json_is_array(value))
        return parser_mismatch(p, name, "a list", value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (check_tool(p, name, json_array_get(value, i)) < 0)
            return -1;
    }
    if (json_array_size(value) == 0)
        return 0;
    json_print(value, JSON_COMPACT, &p->request->tools);
    return p->request->tools.failed ? parser_no_memory(p) : 0;
}

/* ---- which of them may be called ------------------------------------------------------------- */

static const json_t *tool_named(const struct api_request *r, const char *name)
{
    const json_t *tools = json_object_get(r->root, "tools");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        const char *found =
            json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
        if (found != NULL && strcmp(found, name) == 0)
            return tool;
    }
    return NULL;
}

/* {"mode": "auto", "tools": [{"type": "function", "function": {"name": ...}}]} */
static int read_allowed(const struct parser *p, const char *name, const json_t *value)
{
    struct api_request *r = p->request;
    const char *mode = json_string_value(json_object_get(value, "mode"));
    const json_t *list = json_object_get(value, "tools");
    if (mode == NULL || strcmp(mode, "auto") != 0)
        return parser_refuse(p, "unsupported_parameter", name,
                             "only the mode \"auto\" is supported");
    if (json_array_size(list) == 0)
        return parser_mismatch(p, name, "\"tools\" that are a list of some", list);
    json_t *allowed = json_array();
    int status = 0;
    for (size_t i = 0; i < json_array_size(list) && status == 0; i++) {
        const json_t *item = json_array_get(list, i);
        const json_t *function = json_object_get(item, "function");
        const char *called =
            json_string_value(json_object_get(function != NULL ? function : item, "name"));
        const json_t *tool = called != NULL ? tool_named(r, called) : NULL;
        if (tool == NULL)
            status = parser_refuse(p, NULL, name, "expected names of \"tools\", found another");
        else if (json_array_append(allowed, (json_t *)(uintptr_t)tool) != 0)
            status = parser_no_memory(p);
    }
    if (status == 0) {
        json_print(allowed, JSON_COMPACT, &r->callable);
        status = r->callable.failed ? parser_no_memory(p) : 0;
    }
    json_decref(allowed);
    return status;
}

/* tools come before. */
int parser_tool_choice(const struct parser *p, const char *name, const json_t *value)
{
    const char *choice = json_string_value(value);
    const char *type = json_string_value(json_object_get(value, "type"));
    const json_t *allowed = json_object_get(value, "allowed_tools");
    if (choice != NULL && strcmp(choice, "none") == 0) {
        buf_clear(&p->request->tools);
        return 0;
    }
    if (choice != NULL && strcmp(choice, "auto") == 0)
        return 0;
    if (type != NULL && strcmp(type, "allowed_tools") == 0)
        return read_allowed(p, name, allowed != NULL ? allowed : value);
    return parser_refuse(p, "unsupported_parameter", name,
                         "expected \"none\", \"auto\" or allowed tools, found another");
}

int parser_parallel(const struct parser *p, const char *name, const json_t *value)
{
    if (!json_is_boolean(value))
        return parser_mismatch(p, name, "true or false", value);
    p->request->one_call = json_is_false(value);
    return 0;
}

/* ---- calls in messages ----------------------------------------------------------------------- */

int parser_message_calls(const struct parser *p, const char *field, const json_t *calls)
{
    if (!json_is_array(calls))
        return parser_mismatch(p, field, "a list", calls);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        if (name == NULL || !json_is_string(json_object_get(function, "arguments")))
            return parser_refuse(p, NULL, field,
                                 "expected functions with a name and arguments as text, found "
                                 "others");
    }
    return 0;
}
