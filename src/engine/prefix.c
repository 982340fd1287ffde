/* SPDX-License-Identifier: MIT */
#include "engine/prefix.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/tokens.h"

struct prefix_node {
    struct prefix_tree *tree;
    struct prefix_node *parent;    /* NULL: the root of its tree, which has no tokens */
    struct prefix_node **children; /* [n_children] by their first tokens, ascending */
    size_t n_children;
    size_t start, end; /* positions */
    int32_t *tokens;   /* [end - start] */
    uint64_t used;     /* when they were used last, by the index's clock */
    /* Of a leaf: all tokens from the root to its end; and its neighbours among its owner's leaves.
     */
    struct sequence *sequence;
    struct prefix_node *older, *newer;
};

struct prefix_tree {
    struct prefix_owner *owner;
    struct prefix_node root;
    struct prefix_tree *next;
    float scales[]; /* [n_loras] */
};

struct prefix_owner {
    int id;
    size_t pages;
    struct prefix_node *oldest, *newest; /* leaves */
    struct prefix_tree *trees;           /* one or more */
    struct prefix_owner *next;
};

/* Owners and their mixes of adapters are few, and each has a page or more: lists do. */
struct prefix_index {
    struct forward *forward;
    size_t n_loras;
    uint64_t clock;
    struct prefix_owner *owners;
};

struct prefix_index *prefix_open(struct forward *forward, size_t n_loras, struct llama3_error *err)
{
    struct prefix_index *index = size_alloc_for(1, sizeof *index, "the prefix cache", err);
    if (index == NULL)
        return NULL;
    index->forward = forward;
    index->n_loras = n_loras;
    return index;
}

/* ---- trees ------------------------------------------------------------------------------- */

static struct prefix_owner *find_owner(const struct prefix_index *index, int id)
{
    struct prefix_owner *owner = index->owners;
    while (owner != NULL && owner->id != id)
        owner = owner->next;
    return owner;
}

static struct prefix_tree *find_tree(const struct prefix_index *index,
                                     const struct prefix_owner *owner, const float *scales)
{
    struct prefix_tree *tree = owner != NULL ? owner->trees : NULL;
    while (tree != NULL && memcmp(tree->scales, scales, index->n_loras * sizeof *scales) != 0)
        tree = tree->next;
    return tree;
}

/* The tree, which is made if it isn't there; NULL without memory. */
static struct prefix_tree *make_tree(struct prefix_index *index, int id, const float *scales)
{
    struct prefix_owner *owner = find_owner(index, id);
    struct prefix_tree *tree = find_tree(index, owner, scales);
    if (tree != NULL)
        return tree;
    tree = size_alloc(1, sizeof *tree + index->n_loras * sizeof *scales);
    if (tree == NULL)
        return NULL;
    if (owner == NULL) {
        owner = size_alloc(1, sizeof *owner);
        if (owner == NULL) {
            free(tree);
            return NULL;
        }
        owner->id = id;
        owner->next = index->owners;
        index->owners = owner;
    }
    memcpy(tree->scales, scales, index->n_loras * sizeof *scales);
    tree->owner = owner;
    tree->root.tree = tree;
    tree->next = owner->trees;
    owner->trees = tree;
    return tree;
}

/* Frees a tree without nodes, and its owner with the last one. */
static void prune(struct prefix_index *index, struct prefix_tree *tree)
{
    struct prefix_owner *owner = tree->owner, **o = &index->owners;
    struct prefix_tree **t = &owner->trees;
    if (tree->root.n_children > 0)
        return;
    while (*t != tree)
        t = &(*t)->next;
    *t = tree->next;
    free(tree->root.children);
    free(tree);
    if (owner->trees != NULL)
        return;
    while (*o != owner)
        o = &(*o)->next;
    *o = owner->next;
    free(owner);
}

/* ---- nodes ------------------------------------------------------------------------------- */

/* Distinct pages that a node adds to its parent's. A page in which both have positions is the
 * leaf's: sequences that part within a page have one each. */
static size_t pages_of(const struct prefix_node *node)
{
    size_t end = node->sequence != NULL ? kv_pages(node->end) : node->end / KV_PAGE;
    return end - node->start / KV_PAGE;
}

/* The index of the first child whose first token is not below this one. */
static size_t child_index(const struct prefix_node *node, int32_t token)
{
    size_t low = 0, high = node->n_children;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (node->children[middle]->tokens[0] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many of n tokens the tree has, and the last node that has some of them. */
static size_t match(struct prefix_tree *tree, const int32_t *tokens, size_t n,
                    struct prefix_node **last)
{
    struct prefix_node *node = &tree->root;
    size_t at = 0;
    while (at == node->end && at < n) {
        size_t i = child_index(node, tokens[at]);
        if (i == node->n_children || node->children[i]->tokens[0] != tokens[at])
            break;
        node = node->children[i];
        size_t length = node->end - node->start, left = n - at;
        at += tokens_common(node->tokens, tokens + at, length < left ? length : left);
    }
    *last = node;
    return at;
}

static struct prefix_node *any_leaf(struct prefix_node *node)
{
    while (node->n_children > 0)
        node = node->children[0];
    return node;
}

static void free_node(struct prefix_node *node)
{
    free(node->children);
    free(node->tokens);
    free(node);
}

/* A node of tokens [end - start], in no tree yet, with room for a child. */
static struct prefix_node *make_node(const int32_t *tokens, size_t start, size_t end)
{
    struct prefix_node *node = size_alloc(1, sizeof *node);
    if (node == NULL)
        return NULL;
    node->tokens = size_alloc(end - start, sizeof *tokens);
    node->children = size_alloc(1, sizeof(struct prefix_node *));
    if (node->tokens == NULL || node->children == NULL) {
        free_node(node);
        return NULL;
    }
    memcpy(node->tokens, tokens, (end - start) * sizeof *tokens);
    node->start = start;
    node->end = end;
    return node;
}

/* Cuts a node in two at a position within it, and returns the upper one; NULL without memory. */
static struct prefix_node *split(struct prefix_node *node, size_t at)
{
    struct prefix_node *upper = make_node(node->tokens, node->start, at), *parent = node->parent;
    if (upper == NULL)
        return NULL;
    upper->tree = node->tree;
    upper->parent = parent;
    upper->used = node->used;
    upper->children[0] = node;
    upper->n_children = 1;
    parent->children[child_index(parent, node->tokens[0])] = upper;
    memmove(node->tokens, node->tokens + (at - node->start),
            (node->end - at) * sizeof *node->tokens);
    node->parent = upper;
    node->start = at;
    return upper;
}

static int add_child(struct prefix_node *parent, struct prefix_node *child)
{
    size_t n = parent->n_children, i = child_index(parent, child->tokens[0]), size;
    struct prefix_node **children =
        size_mul(n + 1, sizeof *children, &size) ? realloc(parent->children, size) : NULL;
    if (children == NULL)
        return -1;
    memmove(children + i + 1, children + i, (n - i) * sizeof *children);
    children[i] = child;
    parent->children = children;
    parent->n_children = n + 1;
    child->parent = parent;
    child->tree = parent->tree;
    return 0;
}

static void remove_child(struct prefix_node *parent, const struct prefix_node *child)
{
    size_t i = child_index(parent, child->tokens[0]);
    parent->n_children--;
    memmove(parent->children + i, parent->children + i + 1,
            (parent->n_children - i) * sizeof(struct prefix_node *));
}

/* ---- leaves ------------------------------------------------------------------------------ */

/* newer: the next one that was used more recently; NULL: none was. */
static void link_leaf(struct prefix_node *leaf, struct prefix_node *newer)
{
    struct prefix_owner *owner = leaf->tree->owner;
    leaf->newer = newer;
    leaf->older = newer != NULL ? newer->older : owner->newest;
    *(newer != NULL ? &newer->older : &owner->newest) = leaf;
    *(leaf->older != NULL ? &leaf->older->newer : &owner->oldest) = leaf;
}

static void unlink_leaf(struct prefix_node *leaf)
{
    struct prefix_owner *owner = leaf->tree->owner;
    *(leaf->older != NULL ? &leaf->older->newer : &owner->oldest) = leaf->newer;
    *(leaf->newer != NULL ? &leaf->newer->older : &owner->newest) = leaf->older;
}

/* All tokens up to the node's end were used now. */
static void touch(struct prefix_index *index, struct prefix_node *node)
{
    index->clock++;
    if (node->sequence != NULL) {
        unlink_leaf(node);
        link_leaf(node, NULL);
    }
    for (; node != NULL; node = node->parent)
        node->used = index->clock;
}

/* A node whose children have gone holds the last one's sequence. */
static void become_leaf(struct prefix_index *index, struct prefix_node *node,
                        struct sequence *sequence)
{
    struct prefix_owner *owner = node->tree->owner;
    struct prefix_node *newer = owner->oldest;
    sequence_truncate(index->forward, sequence, node->end);
    owner->pages -= pages_of(node);
    node->sequence = sequence;
    owner->pages += pages_of(node);
    while (newer != NULL && newer->used < node->used)
        newer = newer->newer;
    link_leaf(node, newer);
}

static void remove_leaf(struct prefix_index *index, struct prefix_node *leaf)
{
    struct prefix_node *parent = leaf->parent;
    leaf->tree->owner->pages -= pages_of(leaf);
    unlink_leaf(leaf);
    remove_child(parent, leaf);
    if (parent->parent != NULL && parent->n_children == 0)
        become_leaf(index, parent, leaf->sequence);
    else
        sequence_close(index->forward, leaf->sequence);
    free_node(leaf);
    if (parent->parent == NULL)
        prune(index, parent->tree);
}

void prefix_close(struct prefix_index *index)
{
    if (index == NULL)
        return;
    while (index->owners != NULL)
        remove_leaf(index, index->owners->oldest);
    free(index);
}

/* ---- the index --------------------------------------------------------------------------- */

struct sequence *prefix_take(struct prefix_index *index, int owner, const float *scales,
                             const int32_t *tokens, size_t n, size_t more_than, size_t *length)
{
    struct prefix_tree *tree = find_tree(index, find_owner(index, owner), scales);
    struct prefix_node *node = NULL;
    size_t at = tree != NULL ? match(tree, tokens, n, &node) : 0;
    if (at <= more_than || (at < node->end && (node = split(node, at)) == NULL))
        return NULL;
    struct sequence *sequence = sequence_fork(index->forward, any_leaf(node)->sequence, at, NULL);
    if (sequence == NULL)
        return NULL;
    touch(index, node);
    *length = at;
    return sequence;
}

/* Adds a leaf below a node, of tokens [n] from the root on; -1 without memory. */
static int add_leaf(struct prefix_index *index, struct prefix_node *node, struct sequence *sequence,
                    const int32_t *tokens, size_t n)
{
    struct prefix_owner *owner = node->tree->owner;
    struct prefix_node *leaf = make_node(tokens + node->end, node->end, n);
    struct prefix_node *lender = any_leaf(node); /* the root, where there is none */
    if (leaf == NULL || add_child(node, leaf) < 0) {
        if (leaf != NULL)
            free_node(leaf);
        return -1;
    }
    if (lender->sequence != NULL)
        sequence_share(index->forward, sequence, lender->sequence, node->end);
    if (node->sequence != NULL) {
        owner->pages -= pages_of(node);
        unlink_leaf(node);
        sequence_close(index->forward, node->sequence);
        node->sequence = NULL;
        owner->pages += pages_of(node);
    }
    leaf->sequence = sequence;
    owner->pages += pages_of(leaf);
    link_leaf(leaf, NULL);
    touch(index, leaf);
    return 0;
}

void prefix_give(struct prefix_index *index, int owner, struct sequence *sequence,
                 const int32_t *tokens, size_t n)
{
    struct prefix_tree *tree = n > 0 ? make_tree(index, owner, sequence_scales(sequence)) : NULL;
    struct prefix_node *node = NULL;
    bool given = false;
    if (tree != NULL) {
        size_t at = match(tree, tokens, n, &node);
        if (at < node->end)
            node = split(node, at);
        if (node != NULL && at == n)
            touch(index, node);
        else if (node != NULL)
            given = add_leaf(index, node, sequence, tokens, n) == 0;
        prune(index, tree);
    }
    if (!given)
        sequence_close(index->forward, sequence);
}

bool prefix_drop(struct prefix_index *index)
{
    struct prefix_owner *most = index->owners;
    if (most == NULL)
        return false;
    for (struct prefix_owner *owner = most->next; owner != NULL; owner = owner->next)
        if (owner->pages > most->pages)
            most = owner;
    struct prefix_node *leaf = most->oldest;
    size_t end = (leaf->end - 1) / KV_PAGE * KV_PAGE;
    if (end <= leaf->start) {
        remove_leaf(index, leaf);
        return true;
    }
    sequence_truncate(index->forward, leaf->sequence, end);
    most->pages -= kv_pages(leaf->end) - kv_pages(end);
    leaf->end = end;
    int32_t *fewer = realloc(leaf->tokens, (end - leaf->start) * sizeof *fewer);
    if (fewer != NULL)
        leaf->tokens = fewer;
    return true;
}

size_t prefix_pages(const struct prefix_index *index)
{
    size_t pages = 0;
    for (const struct prefix_owner *owner = index->owners; owner != NULL; owner = owner->next)
        pages += owner->pages;
    return pages;
}
