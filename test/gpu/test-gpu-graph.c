/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client captures a graph and replays it while its library loads pages and
 * the daemon moves others away: neither disturbs the other.
 */
#include <dlfcn.h>
#include <pthread.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "test/gpu/engine-gpu.h"
#include "test/sys/harness.h"

#define SLOTS	16u
#define PAGES	48u
#define GRAPHED 4u
#define REPLAYS 300u
#define SEED	99u

static const char *const daemon_args[] = { "--device", "cuda", "--hbm", "4M",
					   "--host",   "16M",  NULL };

/* What only this test calls of the driver. */
static struct {
	__typeof__(cuStreamBeginCapture_v2) *begin;
	__typeof__(cuStreamEndCapture) *end;
	__typeof__(cuGraphInstantiateWithFlags) *instantiate;
	__typeof__(cuGraphLaunch) *launch;
	__typeof__(cuGraphExecDestroy) *exec_destroy;
	__typeof__(cuGraphDestroy) *destroy;
} graph_api;

/**
 * struct graph_test - the client and its graph.
 * @e:		its pages; the first few are pinned for good.
 * @stream:	of the graph.
 * @addr:	of what the graph reads.
 * @out:	where it copies it to.
 * @exec:	the graph.
 * @stop:	the other thread shall end.
 * @checks:	of it.
 * @result:	of it.
 */
struct graph_test {
	struct engine e;
	CUstream stream;
	void *addr[GRAPHED];
	CUdeviceptr out;
	CUgraphExec exec;
	uint32_t stop;
	uint32_t checks;
	int result;
};

#define CALL(call)                                                             \
	do {                                                                   \
		int r_ = syn_cuda_errno(gpu_api(), (call), #call);             \
		if (r_)                                                        \
			return r_;                                             \
	} while (0)

static int graph_api_load(void)
{
	void *dl = gpu_api()->dl;

	*(void **)&graph_api.begin = dlsym(dl, "cuStreamBeginCapture_v2");
	*(void **)&graph_api.end = dlsym(dl, "cuStreamEndCapture");
	*(void **)&graph_api.instantiate =
		dlsym(dl, "cuGraphInstantiateWithFlags");
	*(void **)&graph_api.launch = dlsym(dl, "cuGraphLaunch");
	*(void **)&graph_api.exec_destroy = dlsym(dl, "cuGraphExecDestroy");
	*(void **)&graph_api.destroy = dlsym(dl, "cuGraphDestroy");
	return graph_api.begin && graph_api.end && graph_api.instantiate &&
			       graph_api.launch && graph_api.exec_destroy &&
			       graph_api.destroy
		       ? 0
		       : -ENOSYS;
}

/*
 * Loads pages that others have to make room for, over and over.  Its own copies
 * must not disturb the capture either; the library sees to that by itself.
 */
static void *mover(void *arg)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	struct graph_test *t = arg;
	CUcontext context;

	if (gpu_api()->cuCtxPushCurrent_v2(gpu_of_test()->context) ||
	    gpu_api()->cuThreadExchangeStreamCaptureMode(&mode)) {
		t->result = -EIO;
		return NULL;
	}
	while (!t->result && !syn_load_acquire(&t->stop)) {
		uint32_t i = GRAPHED + t->checks % (PAGES - GRAPHED);

		t->result = engine_check(&t->e, i);
		syn_store_release(&t->checks, t->checks + 1);
	}
	(void)gpu_api()->cuCtxPopCurrent_v2(&context);
	return NULL;
}

/* While it is captured, the other thread loads. */
static int graph_capture(struct graph_test *t)
{
	const uint64_t bytes = t->e.space.page_bytes;
	uint32_t checks = syn_load_acquire(&t->checks);
	CUgraph graph;

	CALL(graph_api.begin(t->stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	for (uint32_t i = 0; i < GRAPHED; i++)
		CALL(gpu_api()->cuMemcpyAsync(t->out + i * bytes,
					      (uintptr_t)t->addr[i], bytes,
					      t->stream));
	/* A replay would say and want the same again. */
	if (syn_timeline_signal(t->e.client, t->e.timeline, t->stream, 1) !=
	    -EBUSY)
		return -EPROTO;
	if (syn_gpu_stream_is_free(gpu_of_test(), t->stream) != -EBUSY)
		return -EPROTO;
	while (syn_load_acquire(&t->checks) < checks + 20 && !t->result)
		(void)usleep(100);
	CALL(graph_api.end(t->stream, &graph));
	CALL(graph_api.instantiate(&t->exec, graph, 0));
	CALL(graph_api.destroy(graph));
	return 0;
}

static int graph_replay(struct graph_test *t, unsigned char *copy)
{
	const uint64_t bytes = t->e.space.page_bytes;

	CALL(gpu_api()->cuMemsetD32Async(t->out, 0xabababab,
					 GRAPHED * bytes / 4, t->stream));
	CALL(graph_api.launch(t->exec, t->stream));
	CALL(gpu_api()->cuMemcpyAsync((uintptr_t)copy, t->out, GRAPHED * bytes,
				      t->stream));
	CALL(gpu_api()->cuStreamSynchronize(t->stream));
	for (uint32_t i = 0; i < GRAPHED; i++)
		if (!page_matches(copy + i * bytes, bytes, t->e.seed[i]))
			return -EILSEQ;
	return 0;
}

static int graph_work(struct graph_test *t)
{
	unsigned char *copy = malloc(GRAPHED * t->e.space.page_bytes);
	pthread_t thread;
	int r;

	if (!copy)
		return -ENOMEM;
	r = -pthread_create(&thread, NULL, mover, t);
	if (!r) {
		r = graph_capture(t);
		for (uint32_t i = 0; i < REPLAYS && !r; i++)
			r = graph_replay(t, copy);
		syn_store_release(&t->stop, 1);
		(void)pthread_join(thread, NULL);
	}
	free(copy);
	return r ? r : t->result;
}

static int graph_open(struct graph_test *t)
{
	uint8_t uuid[SYN_UUID_BYTES];
	int r = graph_api_load();

	if (!r)
		r = engine_open_on(&t->e, &gpu_engine_device,
				   daemon_of_test.socket, SLOTS);
	if (!r)
		r = syn_client_gpu(t->e.client, uuid);
	if (!r && memcmp(uuid, syn_gpu_info(gpu_of_test())->uuid, sizeof(uuid)))
		r = -EPROTO;
	if (!r)
		r = engine_grow(&t->e, PAGES, SEED);
	if (!r)
		r = syn_load(t->e.client, t->e.page, GRAPHED, SYN_FOREVER,
			     t->addr);
	if (r)
		return r;
	CALL(gpu_api()->cuStreamCreateWithPriority(&t->stream,
						   CU_STREAM_NON_BLOCKING, 0));
	CALL(gpu_api()->cuMemAlloc_v2(&t->out,
				      GRAPHED * t->e.space.page_bytes));
	return 0;
}

static int client_run(void *arg)
{
	static struct graph_test t;
	int r;

	(void)arg;
	r = graph_open(&t);
	if (!r)
		r = graph_work(&t);
	if (!r)
		print_message("%u replays, %u pages loaded meanwhile\n",
			      REPLAYS, t.checks);
	if (t.exec)
		(void)graph_api.exec_destroy(t.exec);
	(void)gpu_api()->cuMemFree_v2(t.out);
	engine_close(&t.e);
	return r;
}

static void test_replays_beside_loads(void **state)
{
	struct syn_ctl_status status;

	(void)state;
	test_patience(120);
	assert_int_equal(gpu_join(gpu_fork(client_run, NULL)), 0);
	ctl_status(daemon_of_test.socket, &status);
	assert_true(status.loads > 0);
	assert_true(status.demotions > 0);
	assert_int_equal(status.sum_failures, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replays_beside_loads),
	};

	test_watchdog();
	if (!gpu_is_there())
		return TEST_SKIP;
	return daemon_run_tests(tests, daemon_args);
}
