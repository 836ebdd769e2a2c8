/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that a stream is given again and again: captured when it is given for
 * the first time, replayed from then on.  One thread, in the GPU's context.
 */
#ifndef SYN_TOOLS_INFER_GPU_GRAPH_H
#define SYN_TOOLS_INFER_GPU_GRAPH_H

#include "kernels/cuda/api.h"

struct syn_graphs;

/* Gives work to the stream, the same each time but for what memory says. */
typedef int (*syn_give_fn)(void *data);

/* Room for @nr different ones.  -ENOSYS: the driver has no graphs. */
int syn_graphs_new(const struct syn_cuda_api *api, CUstream stream,
		   unsigned int nr, struct syn_graphs **ret);
/* Their work is done.  Takes NULL, returns NULL. */
struct syn_graphs *syn_graphs_free(struct syn_graphs *graphs);

/* Gives the stream graph @which, by default what @give gives it. */
int syn_graphs_launch(struct syn_graphs *graphs, unsigned int which,
		      syn_give_fn give, void *data);

#endif
