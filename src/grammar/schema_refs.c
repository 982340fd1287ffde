/* SPDX-License-Identifier: MIT */
/*
 * schema_refs.c: what a reference means. A schema with an $id is a resource, whose URI is the base
 * of the references inside (RFC 3986, 5.2); a fragment is a JSON pointer or an anchor.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "grammar/schema_parts.h"

/* ---- URIs ----------------------------------------------------------------------------------- */

/* Bytes of a URI up to the path: "scheme:" and "//authority". */
static size_t scheme_size(const char *uri)
{
    size_t n = strcspn(uri, ":/?#");
    return uri[n] == ':' && n > 0 ? n + 1 : 0;
}

static size_t root_size(const char *uri)
{
    size_t n = scheme_size(uri);
    return strncmp(uri + n, "//", 2) == 0 ? n + 2 + strcspn(uri + n + 2, "/?#") : n;
}

/* Removes "." and ".." from the path behind the first `root` bytes. */
static void remove_dots(char *uri, size_t root)
{
    char *out = uri + root, *at = out;
    while (*at != '\0' && *at != '?') {
        size_t n = (*at == '/') + strcspn(at + (*at == '/'), "/?");
        const char *name = at + (*at == '/');
        size_t length = n - (size_t)(*at == '/');
        bool last = at[n] == '\0' || at[n] == '?';
        if (length == 1 && name[0] == '.') {
            if (last && *at == '/')
                *out++ = '/';
        } else if (length == 2 && name[0] == '.' && name[1] == '.') {
            while (out > uri + root && *--out != '/')
                ;
            if (last)
                *out++ = '/';
        } else {
            memmove(out, at, n);
            out += n;
        }
        at += n;
    }
    memmove(out, at, strlen(at) + 1);
}

/* Appends the URI that a reference of n bytes without a fragment means. */
static void resolve_uri(struct buf *out, const char *base, const char *ref, size_t n)
{
    size_t root = root_size(base), path = strcspn(base + root, "?");
    if (n == 0) {
        buf_add_str(out, base);
        return;
    }
    size_t start = out->size, kept = 0;
    if (n >= 2 && ref[0] == '/' && ref[1] == '/') {
        kept = scheme_size(base);
    } else if (ref[0] == '/') {
        kept = root;
    } else if (ref[0] == '?') {
        kept = root + path;
    } else {
        kept = root + path;
        while (kept > root && base[kept - 1] != '/')
            kept--;
    }
    char *copy = strndup(ref, n);
    if (copy == NULL) {
        out->failed = true;
        return;
    }
    if (scheme_size(copy) == 0)
        buf_add(out, base, kept);
    buf_add(out, ref, n);
    free(copy);
    if (!out->failed) {
        remove_dots(out->data + start, root_size(out->data + start));
        out->size = strlen(out->data);
    }
}

/* ---- targets -------------------------------------------------------------------------------- */

static bool same_uri(const struct schemas *all, uint32_t id, const void *key)
{
    const struct buf *uri = key;
    return all->uris[id].n == uri->size && memcmp(all->uris[id].bytes, uri->data, uri->size) == 0;
}

/* The node of a URI with its fragment, if any; a new one is `node`. NODE_NONE: there is none, or a
 * failure. */
static uint32_t uri_node(struct schemas *all, const struct buf *uri, uint32_t node)
{
    if (uri->failed)
        return NODE_NONE;
    struct intern_slot *slot = schema_slot(
        all, &all->by_uri, hash_bytes(&all->key, uri->data, uri->size, NULL, 0), same_uri, uri);
    if (slot == NULL)
        return NODE_NONE;
    if (slot->id != UINT32_MAX && all->uri_nodes[slot->id] == NODE_NONE)
        all->uri_nodes[slot->id] = node;
    if (slot->id != UINT32_MAX)
        return all->uri_nodes[slot->id];
    char *copy = schema_alloc(all, &all->kept, uri->size + 1, 1);
    if (copy == NULL ||
        schema_grow(all, &all->uris, all->n_uris, &all->uris_room, sizeof *all->uris) != 0 ||
        schema_grow(all, &all->uri_nodes, all->n_uris, &all->uri_nodes_room,
                    sizeof *all->uri_nodes) != 0)
        return NODE_NONE;
    memcpy(copy, uri->data, uri->size);
    all->uris[all->n_uris] = (struct name){copy, uri->size};
    all->uri_nodes[all->n_uris] = node;
    slot->id = all->n_uris++;
    return node;
}

static int add_resource(struct schemas *all, uint32_t node, const char *id)
{
    struct buf uri = {0};
    const char *base = node == 0 ? "" : all->resources[all->nodes[node].resource].uri;
    buf_add_str(&uri, "");
    resolve_uri(&uri, base, id, strcspn(id, "#"));
    uri_node(all, &uri, node);
    char *copy = uri.failed ? NULL : schema_alloc(all, &all->kept, uri.size + 1, 1);
    if (copy != NULL)
        memcpy(copy, uri.data, uri.size + 1);
    buf_free(&uri);
    if (copy == NULL || schema_grow(all, &all->resources, all->n_resources, &all->resources_room,
                                    sizeof *all->resources) != 0)
        return -1;
    all->resources[all->n_resources] = (struct schema_resource){copy, node};
    all->nodes[node].resource = all->n_resources++;
    return 0;
}

static int add_anchor(struct schemas *all, uint32_t node, const char *anchor)
{
    struct buf uri = {0};
    buf_add_str(&uri, all->resources[all->nodes[node].resource].uri);
    buf_add_str(&uri, "#");
    buf_add_str(&uri, anchor);
    uri_node(all, &uri, node);
    buf_free(&uri);
    return all->failed ? -1 : 0;
}

int schema_identify(struct schemas *all, uint32_t node)
{
    const json_t *json = all->nodes[node].json;
    const char *id = json_string_value(json_object_get(json, all->ids ? "id" : "$id"));
    const char *anchor = json_string_value(json_object_get(json, "$anchor"));
    const char *dynamic = json_string_value(json_object_get(json, "$dynamicAnchor"));
    if (id != NULL && node != 0 && all->old && json_object_get(json, "$ref") != NULL)
        id = NULL;
    if ((node == 0 || (id != NULL && id[0] != '#' && id[0] != '\0')) &&
        add_resource(all, node, id != NULL ? id : "") != 0)
        return -1;
    if (id != NULL && id[0] == '#' && id[1] != '\0' && add_anchor(all, node, id + 1) != 0)
        return -1;
    if (anchor != NULL && add_anchor(all, node, anchor) != 0)
        return -1;
    all->n_dynamic += dynamic != NULL;
    all->n_dynamic += json_is_true(json_object_get(json, "$recursiveAnchor"));
    return dynamic != NULL ? add_anchor(all, node, dynamic) : 0;
}

/* ---- references ----------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decodes %XX in place. */
static void decode_percent(char *text)
{
    char *out = text;
    for (; *text != '\0'; text++)
        if (*text == '%' && hex(text[1]) >= 0 && hex(text[2]) >= 0) {
            *out++ = (char)(hex(text[1]) << 4 | hex(text[2]));
            text += 2;
        } else {
            *out++ = *text;
        }
    *out = '\0';
}

/* What a pointer's token leads to; the token is decoded in place. */
static json_t *step(json_t *from, char *token)
{
    char *out = token, *end;
    for (const char *at = token; *at != '\0'; at++)
        if (at[0] == '~' && (at[1] == '0' || at[1] == '1'))
            *out++ = *++at == '0' ? '~' : '/';
        else
            *out++ = *at;
    *out = '\0';
    if (json_is_object(from))
        return json_object_get(from, token);
    unsigned long index = strtoul(token, &end, 10);
    return token[0] >= '0' && token[0] <= '9' && *end == '\0' ? json_array_get(from, index) : NULL;
}

/* The node that a pointer leads to from a resource, or a boolean's; NODE_NONE where it leads
 * nowhere. */
static uint32_t follow(struct schemas *all, uint32_t from, const char *pointer)
{
    char *copy = strdup(pointer), *rest = copy;
    json_t *at = all->nodes[from].json;
    uint32_t node = from;
    while (rest != NULL && at != NULL && *rest == '/') {
        char *token = rest + 1;
        rest = strchr(token, '/');
        if (rest != NULL)
            *rest = '\0';
        at = step(at, token);
        if (rest != NULL)
            *rest = '/';
        uint32_t known = at != NULL ? schema_node_find(all, at) : NODE_NONE;
        if (known != NODE_NONE)
            node = known;
    }
    free(copy);
    if (json_is_boolean(at))
        return json_is_true(at) ? NODE_TRUE : NODE_FALSE;
    if (!json_is_object(at))
        return NODE_NONE;
    if (all->nodes[node].json == at)
        return node;
    char *shown = schema_alloc(all, &all->kept, strlen(pointer) + 2, 1);
    if (shown == NULL)
        return NODE_NONE;
    shown[0] = '#';
    strcpy(shown + 1, pointer);
    return schema_node_add(all, at, node, "", shown, NODE_NONE);
}

static int resolve(struct schemas *all, uint32_t node, const char *keyword, const char *ref,
                   uint32_t *target)
{
    size_t n = strcspn(ref, "#");
    char *fragment = strdup(ref[n] == '#' ? ref + n + 1 : "");
    struct buf uri = {0};
    buf_add_str(&uri, "");
    resolve_uri(&uri, all->resources[all->nodes[node].resource].uri, ref, n);
    uint32_t from = uri_node(all, &uri, NODE_NONE), found = NODE_NONE;
    if (n == 0)
        from = all->resources[all->nodes[node].resource].node;
    if (fragment != NULL)
        decode_percent(fragment);
    if (from != NODE_NONE && fragment != NULL && fragment[0] == '\0') {
        found = from;
    } else if (from != NODE_NONE && fragment != NULL && fragment[0] == '/') {
        found = follow(all, from, fragment);
        /* An $id in the middle that was meant as a name and no base. */
        if (found == NODE_NONE && n == 0 && from != 0)
            found = follow(all, 0, fragment);
    } else if (fragment != NULL) {
        buf_add_str(&uri, "#");
        buf_add_str(&uri, fragment);
        found = uri_node(all, &uri, NODE_NONE);
    }
    buf_free(&uri);
    free(fragment);
    if (all->failed)
        return -1;
    *target = found;
    if (found != NODE_NONE)
        return 0;
    return schema_error(all, node, keyword, NULL,
                        "expected a reference to a schema of this document, found %.160s", ref);
}

int schema_resolve(struct schemas *all, uint32_t node)
{
    const json_t *json = all->nodes[node].json;
    const char *ref = json_string_value(json_object_get(json, "$ref"));
    const char *dynamic = json_string_value(json_object_get(json, "$dynamicRef"));
    const char *recursive = json_string_value(json_object_get(json, "$recursiveRef"));
    uint32_t target;
    if (ref != NULL) {
        if (resolve(all, node, "$ref", ref, &target) != 0)
            return -1;
        all->nodes[node].target = target;
    }
    if (dynamic == NULL && recursive == NULL)
        return 0;
    const char *keyword = dynamic != NULL ? "$dynamicRef" : "$recursiveRef";
    /* With one anchor and one resource there is nothing to be overridden. */
    if (all->n_resources > 1 && all->n_dynamic > 1)
        return schema_error(all, node, keyword, NULL,
                            "expected one schema with a dynamic anchor, found %u", all->n_dynamic);
    if (resolve(all, node, keyword, dynamic != NULL ? dynamic : recursive, &target) != 0)
        return -1;
    all->nodes[node].dynamic = target;
    return 0;
}
