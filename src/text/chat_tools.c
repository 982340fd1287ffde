/* SPDX-License-Identifier: MIT */
#include "text/chat_tools.h"

#include <string.h>

#include "base/buf.h"
#include "base/json.h"

/* Failures stick in a buf or in this flag, and are looked at once at the end. */
struct tool_conversion {
    const struct tool_form *form;
    bool generic; /* the template has no calls: they become text */
    bool failed;
};

static void append(struct tool_conversion *w, json_t *list, json_t *value)
{
    w->failed |= json_array_append_new(list, value) != 0;
}

static void set(struct tool_conversion *w, json_t *object, const char *key, json_t *value)
{
    w->failed |= json_object_set_new(object, key, value) != 0;
}

/* The text as a value; NULL: no memory. buf is freed. */
static json_t *take_text(struct buf *text)
{
    buf_add(text, "", 0);
    json_t *value = text->failed ? NULL : json_stringn(text->data, text->size);
    buf_free(text);
    return value;
}

bool chat_tools_given(const json_t *tools)
{
    return json_is_array(tools);
}

static bool is_role(const json_t *message, const char *role)
{
    const char *found = json_string_value(json_object_get(message, "role"));
    return found != NULL && strcmp(found, role) == 0;
}

static bool is_result(const json_t *message)
{
    return is_role(message, "tool") || is_role(message, "ipython");
}

/* A message's calls if all are objects, else NULL: the template says what it thinks of others. */
static json_t *calls_of(const json_t *message)
{
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    size_t i;
    if (json_array_size(calls) == 0)
        return NULL;
    json_array_foreach(calls, i, call)
    {
        if (!json_is_object(call))
            return NULL;
    }
    return calls;
}

/* The function of a call, which some give without its wrapping. */
static json_t *function_of(json_t *call)
{
    json_t *function = json_object_get(call, "function");
    return json_is_object(function) ? function : call;
}

/* ---- arguments ------------------------------------------------------------------------------ */

/* Clients send arguments as JSON text; most templates take objects. */
static void convert_arguments(struct tool_conversion *w, json_t *function)
{
    json_t *arguments = json_object_get(function, "arguments");
    const char *text = json_string_value(arguments);
    if (text != NULL && !w->form->arguments_text) {
        size_t n = json_string_length(arguments);
        json_t *value = json_parse_exact(text, n, "arguments", NULL);
        if (value != NULL)
            set(w, function, "arguments", value);
    } else if (json_is_object(arguments) && w->form->arguments_text) {
        struct buf printed = {0};
        json_print(arguments, 0, &printed);
        set(w, function, "arguments", take_text(&printed));
    }
}

/* A message with calls as the template takes it. */
static json_t *convert_calls(struct tool_conversion *w, const json_t *message, json_t *calls)
{
    json_t *made = json_copy((json_t *)(uintptr_t)message), *copies = json_deep_copy(calls), *call;
    size_t i;
    json_array_foreach(copies, i, call)
    {
        convert_arguments(w, function_of(call));
        if (json_object_get(call, "type") == NULL && json_object_get(call, "function") != NULL)
            set(w, call, "type", json_string("function"));
    }
    set(w, made, "tool_calls", copies);
    const json_t *content = json_object_get(message, "content");
    if (w->form->content_null)
        set(w, made, "content", json_null());
    else if (w->form->content_text && (content == NULL || json_is_null(content)))
        set(w, made, "content", json_string(""));
    return made;
}

/* ---- several calls of a message, where the template refuses them ---------------------------- */

/* The result of a call among n messages: by its id, else the next one. Taken ones are NULL. */
static size_t result_of(json_t *const *results, size_t n, const json_t *call)
{
    const char *id = json_string_value(json_object_get(call, "id"));
    size_t first = n;
    for (size_t i = n; i-- > 0;) {
        const char *of = results[i] != NULL
                             ? json_string_value(json_object_get(results[i], "tool_call_id"))
                             : NULL;
        if (id != NULL && of != NULL && strcmp(id, of) == 0)
            return i;
        if (results[i] != NULL && (of == NULL || of[0] == '\0' || id == NULL))
            first = i;
    }
    return first;
}

enum { MAX_SPLIT = 256 };

/* Each call and its result, in the place of a message with several and their results. Returns how
 * many messages it took. */
static size_t split(struct tool_conversion *w, const json_t *messages, size_t at, json_t *calls,
                    json_t *out)
{
    json_t *results[MAX_SPLIT], *call, *message = json_array_get(messages, at);
    size_t n = 0, i;
    while (n < MAX_SPLIT && is_result(json_array_get(messages, at + 1 + n))) {
        results[n] = json_array_get(messages, at + 1 + n);
        n++;
    }
    json_array_foreach(calls, i, call)
    {
        json_t *alone = json_pack("[O]", call), *made = convert_calls(w, message, alone);
        if (i > 0 && !w->form->content_null)
            set(w, made, "content", json_string("")); /* the text stands before the first */
        append(w, out, made);
        json_decref(alone);
        size_t found = result_of(results, n, call);
        if (found < n)
            append(w, out, json_incref(results[found]));
        if (found < n)
            results[found] = NULL;
    }
    for (i = 0; i < n; i++)
        if (results[i] != NULL)
            append(w, out, json_incref(results[i]));
    return 1 + n;
}

/* ---- templates without calls ---------------------------------------------------------------- */

static void add_text(const json_t *content, struct buf *out)
{
    const json_t *part;
    size_t i;
    if (json_is_string(content)) {
        buf_add(out, json_string_value(content), json_string_length(content));
        return;
    }
    json_array_foreach((json_t *)(uintptr_t)content, i, part)
    {
        const json_t *text = json_object_get(part, "text");
        if (json_is_string(text))
            add_text(text, out);
    }
    if (!json_is_array(content) && content != NULL && !json_is_null(content))
        json_print(content, JSON_ENCODE_ANY, out);
}

static void add_line_end(struct buf *out)
{
    if (out->size > 0)
        buf_add_str(out, "\n");
}

/* A call in the generic form. */
static void add_call(const struct tool_form *form, json_t *call, struct buf *out)
{
    json_t *function = function_of(call), *arguments = json_object_get(function, "arguments");
    add_line_end(out);
    buf_add_str(out, form->begin);
    buf_add_str(out, "\n{\"name\": ");
    const json_t *name = json_object_get(function, "name");
    json_print(name != NULL ? name : json_null(), JSON_ENCODE_ANY, out);
    buf_add_str(out, ", \"arguments\": ");
    if (arguments == NULL)
        buf_add_str(out, "{}");
    else if (json_is_string(arguments))
        add_text(arguments, out);
    else
        json_print(arguments, JSON_ENCODE_ANY, out);
    buf_add_str(out, "}\n");
    buf_add_str(out, form->end);
}

static json_t *calls_as_text(struct tool_conversion *w, const json_t *message, json_t *calls)
{
    struct buf text = {0};
    json_t *made = json_copy((json_t *)(uintptr_t)message), *call;
    size_t i;
    add_text(json_object_get(message, "content"), &text);
    json_array_foreach(calls, i, call)
    {
        add_call(&tool_form_generic, call, &text);
    }
    json_object_del(made, "tool_calls");
    set(w, made, "content", take_text(&text));
    return made;
}

/* All results that stand together, as one message of the user. Returns how many. */
static size_t results_as_text(struct tool_conversion *w, const json_t *messages, size_t at,
                              json_t *out)
{
    struct buf text = {0};
    size_t n = 0;
    for (; is_result(json_array_get(messages, at + n)); n++) {
        add_line_end(&text);
        buf_add_str(&text, "<tool_response>\n");
        add_text(json_object_get(json_array_get(messages, at + n), "content"), &text);
        buf_add_str(&text, "\n</tool_response>");
    }
    append(w, out, json_pack("{s:s, s:o}", "role", "user", "content", take_text(&text)));
    return n;
}

/* ---- tools ---------------------------------------------------------------------------------- */

/* How a call is written, as an example for the model. */
static void add_example(const struct tool_form *form, struct buf *out)
{
    static const char name[] = "NAME", arguments[] = "{\"ARGUMENT\": VALUE}";
    buf_add_str(out, form->begin);
    if (form->syntax == TOOL_JSON) {
        buf_add_str(out, form->begin[0] != '\0' ? "\n{\"name\": \"" : "{\"name\": \"");
        buf_add_str(out, name);
        buf_add_str(out, "\", \"");
        buf_add_str(out, form->arguments_key);
        buf_add_str(out, "\": ");
        buf_add_str(out, arguments);
        buf_add_str(out, form->end[0] != '\0' ? "}\n" : "}");
    } else if (form->syntax == TOOL_NAMED) {
        buf_add_str(out, name);
        buf_add_str(out, form->middle[0] != '>' ? "\n" : "");
        buf_add_str(out, form->middle);
        buf_add_str(out, form->middle[0] != '>' ? "\n" : "");
        buf_add_str(out, arguments);
        buf_add_str(out, form->end[0] != '<' ? "\n" : "");
    } else {
        buf_add_str(out, "NAME(ARGUMENT=VALUE)");
    }
    buf_add_str(out, form->end);
}

/* What a model is told whose template doesn't write tools. */
static json_t *tools_as_text(const struct tool_form *form, const json_t *tools,
                             const json_t *before)
{
    struct buf text = {0};
    json_t *tool;
    size_t i;
    add_text(before, &text);
    buf_add_str(&text, text.size > 0 ? "\n\n" : "");
    buf_add_str(&text, "You can call functions. They are, as JSON:\n\n<tools>\n");
    json_array_foreach((json_t *)(uintptr_t)tools, i, tool)
    {
        json_print(tool, JSON_ENCODE_ANY, &text);
        buf_add_str(&text, "\n");
    }
    buf_add_str(&text, "</tools>\n\nTo call one, answer with its name and its arguments:\n\n");
    add_example(form, &text);
    return take_text(&text);
}

static void tell_tools(struct tool_conversion *w, json_t *messages, const json_t *tools)
{
    const struct tool_form *form = w->generic ? &tool_form_generic : w->form;
    json_t *first = json_array_get(messages, 0);
    const bool system = is_role(first, "system");
    const json_t *before = system ? json_object_get(first, "content") : NULL;
    json_t *made = system ? json_copy(first) : json_pack("{s:s}", "role", "system");
    set(w, made, "content", tools_as_text(form, tools, before));
    w->failed |= system ? json_array_set_new(messages, 0, made) != 0
                        : json_array_insert_new(messages, 0, made) != 0;
}

static bool is_builtin(const json_t *tool)
{
    static const char *const names[] = {"brave_search", "wolfram_alpha", "code_interpreter"};
    const char *name =
        json_string_value(json_object_get(function_of((json_t *)(uintptr_t)tool), "name"));
    for (size_t i = 0; name != NULL && i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Tools that Llama 3.1 was trained with are named to it, and not described. */
static void name_builtin(struct tool_conversion *w, json_t *variables, const json_t *given,
                         const json_t *tools)
{
    json_t *builtin = json_array(), *others = json_array(), *tool;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)tools, i, tool)
    {
        if (is_builtin(tool))
            append(w, builtin, json_incref(json_object_get(function_of(tool), "name")));
        else
            append(w, others, json_incref(tool));
    }
    if (json_array_size(builtin) > 0 && json_object_get(given, "builtin_tools") == NULL) {
        set(w, variables, "builtin_tools", json_incref(builtin));
        set(w, variables, "tools", json_array_size(others) > 0 ? json_incref(others) : json_null());
    }
    json_decref(builtin);
    json_decref(others);
}

/* firefunction takes tools as text, and the time. It gets the day alone, so that prompts of a day
 * begin alike. */
static void set_functions(struct tool_conversion *w, json_t *variables, const json_t *given,
                          const json_t *tools, const struct tm *now)
{
    struct buf text = {0};
    json_t *functions = json_array(), *tool;
    char day[64];
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)tools, i, tool)
    {
        append(w, functions, json_incref(json_is_object(tool) ? function_of(tool) : tool));
    }
    json_print(functions, JSON_INDENT(4), &text);
    json_decref(functions);
    strftime(day, sizeof day, "%Y-%m-%d 00:00:00 GMT", now);
    json_t *value = take_text(&text);
    if (json_object_get(given, "functions") == NULL)
        set(w, variables, "functions", json_incref(value));
    if (json_object_get(given, "datetime") == NULL)
        set(w, variables, "datetime", json_string(day));
    json_decref(value);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static json_t *convert_messages(struct tool_conversion *w, const json_t *messages)
{
    json_t *out = json_array();
    for (size_t at = 0; at < json_array_size(messages);) {
        json_t *message = json_array_get(messages, at), *calls = calls_of(message);
        size_t taken = 1;
        if (w->generic && is_result(message))
            taken = results_as_text(w, messages, at, out);
        else if (w->generic && calls != NULL)
            append(w, out, calls_as_text(w, message, calls));
        else if (calls != NULL && json_array_size(calls) > 1 && w->form->single)
            taken = split(w, messages, at, calls, out);
        else if (calls != NULL)
            append(w, out, convert_calls(w, message, calls));
        else
            append(w, out, json_incref(message));
        at += taken;
    }
    return out;
}

static bool has_calls(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (calls_of(json_array_get(messages, i)) != NULL)
            return true;
    return false;
}

json_t *chat_tools_apply(const struct tool_form *form, json_t *messages, json_t *variables,
                         const json_t *given, const struct tm *now)
{
    json_t *tools = json_incref(json_object_get(variables, "tools"));
    struct tool_conversion w = {.form = form};
    const bool any = json_array_size(tools) > 0;
    w.generic = form->syntax == TOOL_NONE && (any || has_calls(messages));
    json_t *out = convert_messages(&w, messages);
    if (any && !form->knows_tools)
        tell_tools(&w, out, tools);
    if (any && form->builtin)
        name_builtin(&w, variables, given, tools);
    if (form->functions)
        set_functions(&w, variables, given, tools, now);
    json_decref(tools);
    json_decref(messages);
    if (!w.failed)
        return out;
    json_decref(out);
    return NULL;
}
