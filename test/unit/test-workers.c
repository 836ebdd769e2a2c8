/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/workers.h: every task once, every job once, all workers used. */
#include "kernels/workers.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "core/base/atomic.h"
#include "core/base/base.h"
#include "core/base/fault.h"
#include "test/test.h"

#define WORKERS 4u
#define TASKS	64u

/**
 * struct probe - a job that notes what happens to it.
 * @job:	the job.
 * @ran:	how often each task ran, ...
 * @by:		... and who ran it last.
 * @nr_ran:	tasks that ran.
 * @nr_done:	how often it was reaped.
 * @fail_at:	the task that fails with @fail, or TASKS.
 * @fail:	see there.
 * @barrier:	where each task waits, or NULL.
 */
struct probe {
	struct syn_job job;
	unsigned int ran[TASKS];
	pthread_t by[TASKS];
	unsigned int nr_ran;
	unsigned int nr_done;
	uint32_t fail_at;
	int fail;
	pthread_barrier_t *barrier;
};

static int probe_run(struct syn_job *job, uint32_t task)
{
	struct probe *probe = syn_container_of(job, struct probe, job);

	/* cmocka cannot fail in this thread. */
	if (task >= job->nr_tasks)
		abort();
	(void)syn_fetch_add_seq_cst(&probe->ran[task], 1);
	(void)syn_fetch_add_seq_cst(&probe->nr_ran, 1);
	probe->by[task] = pthread_self();
	if (probe->barrier)
		(void)pthread_barrier_wait(probe->barrier);
	return task == probe->fail_at ? probe->fail : 0;
}

static void probe_init(struct probe *probe, uint32_t tasks)
{
	memset(probe, 0, sizeof(*probe));
	probe->job.run = probe_run;
	probe->job.nr_tasks = tasks;
	probe->fail_at = TASKS;
}

static void probes_submit(struct syn_workers *workers, struct probe *probe,
			  unsigned int nr)
{
	struct syn_list jobs;

	syn_list_init(&jobs);
	for (unsigned int i = 0; i < nr; i++)
		syn_list_add_tail(&jobs, &probe[i].job.link);
	syn_workers_submit(workers, &jobs);
	assert_true(syn_list_empty(&jobs));
}

static bool event_is_up(const struct syn_workers *workers, int timeout_ms)
{
	struct pollfd fd = { .fd = syn_workers_event_fd(workers),
			     .events = POLLIN };

	return poll(&fd, 1, timeout_ms) == 1;
}

/* Exactly @nr, at most @max at once. */
static void probes_reap(struct syn_workers *workers, unsigned int nr,
			unsigned int max)
{
	struct syn_list jobs;

	while (nr) {
		unsigned int got = 0;
		struct probe *probe;

		syn_list_init(&jobs);
		assert_true(event_is_up(workers, -1));
		syn_workers_reap(workers, max, &jobs);
		syn_list_for_each (probe, &jobs, job.link) {
			probe->nr_done++;
			got++;
		}
		assert_in_range(got, 1, syn_min(nr, max));
		nr -= got;
	}
	assert_false(event_is_up(workers, 0));
}

static void test_every_task_once(void **state)
{
	static struct probe probe[200];
	struct syn_workers *workers;

	assert_int_equal(syn_workers_open(&workers, WORKERS, NULL, -1), 0);
	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < 200; i++)
			probe_init(&probe[i], 1 + (i + round) % TASKS);
		for (unsigned int i = 0; i < 200; i += 8)
			probes_submit(workers, &probe[i], 8);
		probes_reap(workers, 200, 1 + round);
		for (unsigned int i = 0; i < 200; i++) {
			assert_int_equal(probe[i].nr_done, 1);
			assert_int_equal(probe[i].job.status, 0);
			for (uint32_t j = 0; j < TASKS; j++)
				assert_int_equal(probe[i].ran[j],
						 j < probe[i].job.nr_tasks);
		}
	}
	syn_workers_close(workers);
}

/* Each task waits until every worker runs one: nobody may stand aside. */
static void test_one_job_is_shared(void **state)
{
	struct syn_workers *workers;
	pthread_barrier_t barrier;
	struct probe probe;

	assert_int_equal(pthread_barrier_init(&barrier, NULL, WORKERS), 0);
	assert_int_equal(syn_workers_open(&workers, WORKERS, NULL, -1), 0);
	for (unsigned int round = 0; round < 50; round++) {
		probe_init(&probe, WORKERS);
		probe.barrier = &barrier;
		probes_submit(workers, &probe, 1);
		probes_reap(workers, 1, 1);
	}
	syn_workers_close(workers);
	assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

/* The same with one job for each: whoever shared one would leave one over. */
static void test_whole_jobs_in_parallel(void **state)
{
	struct probe probe[WORKERS];
	struct syn_workers *workers;
	pthread_barrier_t barrier;

	assert_int_equal(pthread_barrier_init(&barrier, NULL, WORKERS), 0);
	assert_int_equal(syn_workers_open(&workers, WORKERS, NULL, -1), 0);
	for (unsigned int i = 0; i < WORKERS; i++) {
		probe_init(&probe[i], TASKS);
		probe[i].barrier = &barrier;
	}
	probes_submit(workers, probe, WORKERS);
	probes_reap(workers, WORKERS, WORKERS);
	syn_workers_close(workers);
	for (unsigned int i = 0; i < WORKERS; i++)
		for (uint32_t j = 1; j < TASKS; j++)
			assert_true(
				pthread_equal(probe[i].by[0], probe[i].by[j]));
	assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

/* One worker takes tasks in order, so what is left out is known. */
static void test_failure_ends_the_job(void **state)
{
	struct syn_workers *workers;
	struct probe probe[3];

	assert_int_equal(syn_workers_open(&workers, 1, NULL, -1), 0);
	for (unsigned int i = 0; i < 3; i++)
		probe_init(&probe[i], TASKS);
	probe[1].fail_at = 10;
	probe[1].fail = -EDOM;
	probes_submit(workers, probe, 3);
	probes_reap(workers, 3, 1);
	syn_workers_close(workers);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(probe[i].nr_done, 1);
		assert_int_equal(probe[i].job.status, i == 1 ? -EDOM : 0);
		assert_int_equal(probe[i].nr_ran, i == 1 ? 11 : TASKS);
	}
}

/* With others under way when one fails: they end before the job does. */
static void test_failure_waits(void **state)
{
	struct syn_workers *workers;
	pthread_barrier_t barrier;
	struct probe probe;

	assert_int_equal(pthread_barrier_init(&barrier, NULL, WORKERS), 0);
	assert_int_equal(syn_workers_open(&workers, WORKERS, NULL, -1), 0);
	for (uint32_t at = 0; at < WORKERS; at++) {
		probe_init(&probe, WORKERS);
		probe.barrier = &barrier;
		probe.fail_at = at;
		probe.fail = -EIO;
		probes_submit(workers, &probe, 1);
		probes_reap(workers, 1, 1);
		assert_int_equal(probe.job.status, -EIO);
		assert_int_equal(probe.nr_ran, WORKERS);
	}
	syn_workers_close(workers);
	assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

static void test_close_waits(void **state)
{
	static struct probe probe[100];
	struct syn_workers *workers;

	assert_int_equal(syn_workers_open(&workers, 2, NULL, -1), 0);
	for (unsigned int i = 0; i < 100; i++)
		probe_init(&probe[i], TASKS);
	probes_submit(workers, probe, 100);
	syn_workers_close(workers);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(probe[i].nr_ran, TASKS);
}

/**
 * struct face - what a worker says of itself.
 * @job:	of one task.
 * @name:	of the thread.
 * @blocked:	signals that it does not take.
 */
struct face {
	struct syn_job job;
	char name[16];
	sigset_t blocked;
};

static int face_run(struct syn_job *job, uint32_t task)
{
	struct face *face = syn_container_of(job, struct face, job);

	/* It runs before its creator has named it. */
	do
		(void)pthread_getname_np(pthread_self(), face->name,
					 sizeof(face->name));
	while (strncmp(face->name, "syn-", 4) != 0);
	return pthread_sigmask(SIG_SETMASK, NULL, &face->blocked);
}

static void test_name_and_signals(void **state)
{
	struct face face = { .job = { .run = face_run, .nr_tasks = 1 } };
	struct syn_workers *workers;
	struct syn_list jobs;
	sigset_t mine;

	assert_int_equal(syn_workers_open(&workers, 1, NULL, -1), 0);
	syn_list_init(&jobs);
	syn_list_add_tail(&jobs, &face.job.link);
	syn_workers_submit(workers, &jobs);
	syn_workers_close(workers);
	assert_string_equal(face.name, "syn-copy/0");
	assert_true(sigismember(&face.blocked, SIGTERM));
	assert_true(sigismember(&face.blocked, SIGALRM));
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mine), 0);
	assert_false(sigismember(&mine, SIGTERM));
}

static void threads_wait(int nr)
{
	while (test_count_threads() != nr)
		(void)usleep(100);
}

static void test_threads_and_no_more(void **state)
{
	int before = test_count_threads();
	struct syn_workers *workers;

	assert_int_equal(syn_workers_open(&workers, 3, NULL, -1), 0);
	assert_int_equal(test_count_threads(), before + 3);
	syn_workers_close(workers);
	threads_wait(before);
	assert_int_equal(syn_workers_open(&workers, 1000, NULL, -1), 0);
	assert_int_equal(test_count_threads(), before + (int)SYN_WORKERS_MAX);
	syn_workers_close(workers);
	threads_wait(before);
}

/* The memory, the eventfd, each thread: those that run already are ended. */
static void test_fail_nth(void **state)
{
	const int errors[] = { -ENOMEM, -EMFILE, -EAGAIN };
	int threads = test_count_threads();
	int fds = test_count_fds();

	for (unsigned int nth = 1; nth <= WORKERS + 2; nth++) {
		struct syn_workers *workers = NULL;

		syn_fault_arm(nth);
		assert_int_equal(syn_workers_open(&workers, WORKERS, NULL, -1),
				 errors[syn_min(nth, 3u) - 1]);
		assert_true(syn_fault_disarm());
		assert_null(workers);
		threads_wait(threads);
		assert_int_equal(test_count_fds(), fds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_task_once),
		cmocka_unit_test(test_one_job_is_shared),
		cmocka_unit_test(test_whole_jobs_in_parallel),
		cmocka_unit_test(test_failure_ends_the_job),
		cmocka_unit_test(test_failure_waits),
		cmocka_unit_test(test_close_waits),
		cmocka_unit_test(test_name_and_signals),
		cmocka_unit_test(test_threads_and_no_more),
		cmocka_unit_test(test_fail_nth),
	};

	return test_main(tests);
}
