/* SPDX-License-Identifier: MIT */
/* api_error.c: errors as clients read them (openai.h). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "server/openai.h"

int api_error_set(struct api_error *err, int status, const char *code, const char *param,
                  const char *format, ...)
{
    char text[sizeof err->error.message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    *err = (struct api_error){.status = status, .code = code};
    /* A name comes from the client: error_set() replaces what isn't printable. */
    if (param != NULL) {
        error_input(&err->error, "%.*s", (int)sizeof err->param - 1, param);
        memcpy(err->param, err->error.message, sizeof err->param - 1);
    }
    return error_input(&err->error, "%s", text);
}

/* The message after the path that it begins with; NULL if it doesn't begin with it. */
static const char *after_path(const char *message, const char *path)
{
    size_t n = strlen(path);
    bool begins = strncmp(message, path, n) == 0 && (message[n] == ':' || message[n] == '/');
    return begins ? message + n : NULL;
}

/* The message without the folders of the path that it begins with. */
static const char *without_folder(const char *message)
{
    const char *end = strstr(message, ": "), *name = message;
    if (message[0] != '/' || end == NULL)
        return message;
    for (const char *at = message; at < end; at++)
        if (*at == '/')
            name = at + 1;
    return name;
}

/* Whether a message is about what a template is given, which the request's only field sets. */
static bool is_argument(const char *message)
{
    static const char *const names[] = {"arguments: ", "tools: ", "documents: "};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(message, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

int api_error_from(struct api_error *err, const struct llama3_error *from, const char *model_path,
                   const char *model_id)
{
    const char *rest = after_path(from->message, model_path);
    const char *before = rest != NULL ? model_id : "";
    const char *message = rest != NULL ? rest : without_folder(from->message);
    if (from->code == LLAMA3_EINPUT && is_argument(from->message))
        return api_error_set(err, 400, NULL, "chat_template_kwargs",
                             "request: \"chat_template_kwargs\": %s", from->message);
    bool context = from->code == LLAMA3_ECONTEXT;
    int status = context || from->code == LLAMA3_EINPUT                          ? 400
                 : from->code == LLAMA3_ENOMEM || from->code == LLAMA3_ECANCELED ? 503
                                                                                 : 500;
    return api_error_set(err, status, context ? "context_length_exceeded" : NULL,
                         context ? "messages" : NULL, "%s%s", before, message);
}

static const char *error_type(const struct api_error *err)
{
    if (err->type != NULL)
        return err->type;
    switch (err->status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return err->status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void api_error_print(const struct api_error *err, struct buf *out)
{
    json_t *root = json_pack("{s:{s:s,s:s,s:s?,s:s?}}", "error", "message", err->error.message,
                             "type", error_type(err), "param",
                             err->param[0] != '\0' ? err->param : NULL, "code", err->code);
    struct buf text = {0};
    json_print(root, JSON_COMPACT, &text);
    buf_add_str(out, text.failed ? "{\"error\":{\"message\":\"not enough memory\"}}" : text.data);
    buf_free(&text);
    json_decref(root);
}
