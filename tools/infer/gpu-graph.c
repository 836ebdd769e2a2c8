/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs of a stream. */
#include "tools/infer/gpu-graph.h"

#include <dlfcn.h>

#include "core/base/base.h"
#include "core/base/fault.h"

/* What only graphs need of the driver. */
#define GRAPH_CALLS(X)                                                         \
	X(cuStreamBeginCapture_v2)                                             \
	X(cuStreamEndCapture)                                                  \
	X(cuGraphInstantiateWithFlags)                                         \
	X(cuGraphLaunch)                                                       \
	X(cuGraphExecDestroy)                                                  \
	X(cuGraphDestroy)

/**
 * struct syn_graphs - graphs of one stream.
 * @api:	the driver.
 * @stream:	the stream.
 * @nr:		entries of @exec.
 * @exec:	each, or NULL.
 *
 * And the driver's calls, each under its own name.
 */
struct syn_graphs {
	const struct syn_cuda_api *api;
	CUstream stream;
	unsigned int nr;
	CUgraphExec *exec;
#define X(name) __typeof__(name) *name;
	GRAPH_CALLS(X)
#undef X
};

static int calls_find(struct syn_graphs *g)
{
#define X(name)                                                                \
	*(void **)&g->name = dlsym(g->api->dl, #name);                         \
	if (!g->name)                                                          \
		return -ENOSYS;
	GRAPH_CALLS(X)
#undef X
	return 0;
}

int syn_graphs_new(const struct syn_cuda_api *api, CUstream stream,
		   unsigned int nr, struct syn_graphs **ret)
{
	struct syn_graphs *g = syn_alloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->api = api;
	g->stream = stream;
	g->nr = nr;
	g->exec = syn_alloc(nr, sizeof(*g->exec));
	r = g->exec ? calls_find(g) : -ENOMEM;
	if (r) {
		syn_graphs_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

struct syn_graphs *syn_graphs_free(struct syn_graphs *g)
{
	if (!g)
		return NULL;
	for (unsigned int i = 0; g->exec && i < g->nr; i++)
		if (g->exec[i])
			(void)g->cuGraphExecDestroy(g->exec[i]);
	free(g->exec);
	free(g);
	return NULL;
}

/* The capture ends in any case. */
static int graph_capture(struct syn_graphs *g, syn_give_fn give, void *data,
			 CUgraph *ret)
{
	CUresult result = g->cuStreamBeginCapture_v2(
		g->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	int r;

	if (result)
		return syn_cuda_errno(g->api, result, "cuStreamBeginCapture");
	r = give(data);
	result = g->cuStreamEndCapture(g->stream, ret);
	return r ? r : syn_cuda_errno(g->api, result, "cuStreamEndCapture");
}

static int graph_make(struct syn_graphs *g, syn_give_fn give, void *data,
		      CUgraphExec *ret)
{
	CUgraph graph = NULL;
	int r = graph_capture(g, give, data, &graph);

	if (!r)
		r = syn_cuda_errno(
			g->api, g->cuGraphInstantiateWithFlags(ret, graph, 0),
			"cuGraphInstantiate");
	if (graph)
		(void)g->cuGraphDestroy(graph);
	return r;
}

int syn_graphs_launch(struct syn_graphs *g, unsigned int which,
		      syn_give_fn give, void *data)
{
	int r = 0;

	if (!g->exec[which])
		r = graph_make(g, give, data, &g->exec[which]);
	return r ? r
		 : syn_cuda_errno(g->api,
				  g->cuGraphLaunch(g->exec[which], g->stream),
				  "cuGraphLaunch");
}
