/* SPDX-License-Identifier: MIT */
/*
 * graph.c: a pass of few rows is hundreds of small kernels, which the host launches more slowly
 * than the device runs them. So a list of operations that comes again, on a batch of the same
 * shape, is recorded into a graph, which is one launch. The contents of the batch may differ:
 * kernels read them from the device's memory.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/state.h"
#include "base/size.h"

enum { WORTH_RECORDING = 4 }; /* operations */

struct graph {
    struct pass pass;
    struct op *ops; /* [n_ops] */
    size_t n_ops;
    cudaGraphExec_t exec; /* NULL: seen once, not recorded yet */
    unsigned long last_run;
};

static struct graph *find_graph(const struct cuda *cuda)
{
    for (size_t i = 0; i < cuda->n_graphs; i++) {
        struct graph *g = &cuda->graphs[i];
        if (g->n_ops == cuda->n_ops && memcmp(&g->pass, &cuda->pass, sizeof g->pass) == 0 &&
            memcmp(g->ops, cuda->ops, g->n_ops * sizeof *g->ops) == 0)
            return g;
    }
    return NULL;
}

static void drop_graph(struct graph *g)
{
    if (g->exec != NULL)
        cudaGraphExecDestroy(g->exec);
    free(g->ops);
    *g = (struct graph){0};
}

/* Remembers the list of operations; replaces the least recently used one. */
static void add_graph(struct cuda *cuda)
{
    if (cuda->graphs == NULL)
        cuda->graphs = size_alloc(MAX_GRAPHS, sizeof *cuda->graphs);
    if (cuda->graphs == NULL)
        return;
    struct graph *g = &cuda->graphs[0];
    if (cuda->n_graphs < MAX_GRAPHS)
        g = &cuda->graphs[cuda->n_graphs++];
    for (size_t i = 1; i < cuda->n_graphs && g->ops != NULL; i++)
        if (cuda->graphs[i].last_run < g->last_run)
            g = &cuda->graphs[i];
    drop_graph(g);
    g->ops = size_alloc(cuda->n_ops, sizeof *g->ops);
    if (g->ops == NULL)
        return;
    memcpy(g->ops, cuda->ops, cuda->n_ops * sizeof *g->ops);
    g->n_ops = cuda->n_ops;
    g->pass = cuda->pass;
    g->last_run = cuda->n_runs;
}

static void launch_all(struct cuda *cuda)
{
    for (size_t i = 0; i < cuda->n_ops && cuda->failed == cudaSuccess;)
        i += op_launch(cuda, cuda->ops, i, cuda->n_ops);
}

static void record(struct cuda *cuda, struct graph *g)
{
    cudaGraph_t graph = NULL;
    cuda_check(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal),
               "a graph");
    launch_all(cuda);
    cuda_check(cuda, cudaStreamEndCapture(cuda->stream, &graph), "a graph");
    if (cuda->failed == cudaSuccess)
        cuda_check(cuda, cudaGraphInstantiate(&g->exec, graph, 0), "a graph");
    if (graph != NULL)
        cudaGraphDestroy(graph);
}

void graph_run(struct cuda *cuda)
{
    if (cuda->n_ops == 0 || cuda->pass.n_rows == 0)
        return;
    cuda->n_runs++;
    for (size_t i = 0; i < cuda->n_ops; i++)
        op_prepare(cuda, &cuda->ops[i]);
    if (cuda->lacks_token || cuda->failed != cudaSuccess)
        return;
    cuda->first_op = cuda->first_op != NULL ? cuda->first_op : op_name(cuda->ops[0].kind);
    cuda->last_op = op_name(cuda->ops[cuda->n_ops - 1].kind);
    if (cuda->pass.n_rows > GRAPH_ROWS || cuda->n_ops < WORTH_RECORDING) {
        launch_all(cuda);
        return;
    }

    struct graph *g = find_graph(cuda);
    if (g == NULL) {
        add_graph(cuda);
        launch_all(cuda);
        return;
    }
    g->last_run = cuda->n_runs;
    if (g->exec == NULL)
        record(cuda, g);
    if (cuda->failed == cudaSuccess)
        cuda_check(cuda, cudaGraphLaunch(g->exec, cuda->stream), "a graph");
}

void graph_forget(struct cuda *cuda)
{
    while (cuda->n_graphs > 0)
        drop_graph(&cuda->graphs[--cuda->n_graphs]);
}
