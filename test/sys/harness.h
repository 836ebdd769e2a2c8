/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real synapsed in a directory of its own, and a client made of bare
 * messages and ring entries, for what the library would never send.
 *
 * Failures end the test at once through cmocka.
 */
#ifndef SYN_TEST_SYS_HARNESS_H
#define SYN_TEST_SYS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <synapse/abi.h>

#include "ipc/ring.h"
#include "test/test.h"

/* Geometry of the tests' pages: 2 heads of 64 halves, keys and values. */
#define TEST_TOKENS	128u
#define TEST_PAGE_BYTES (128u * 2 * 64 * 2 * 2)
#define TEST_TILES	4u

/**
 * struct test_daemon - one that runs.
 * @dir:	its directory.
 * @socket:	its socket, in @dir.
 * @log_fd:	what it wrote to standard error.
 * @keeper:	the process that was started: the keeper, or who plays systemd.
 * @worker:	its child, as of the last look.
 * @keeper_fds:	descriptors each held when nobody was attached.
 * @worker_fds:	see @keeper_fds.
 */
struct test_daemon {
	char dir[64];
	char socket[96];
	int log_fd;
	pid_t keeper;
	pid_t worker;
	int keeper_fds;
	int worker_fds;
};

/* What daemon_start() runs ... */
extern const char *daemon_program;
/* ... and who runs it, as a service: play-systemd.  Unset: nobody. */
#define DAEMON_MANAGER_ENV "SYN_TEST_MANAGER"

/* @args: more options, NULL-terminated; may be NULL.  Returns when it serves. */
void daemon_start(struct test_daemon *d, const char *const *args);
/* With at most @nofile descriptors; 0: as many as this process. */
void daemon_start_limited(struct test_daemon *d, const char *const *args,
			  unsigned int nofile);
/* SIGTERM: it must exit with 0 and leave no file; then @d is gone. */
void daemon_stop(struct test_daemon *d);
/* The keeper has ended by itself or was killed: same, with @status. */
void daemon_gone(struct test_daemon *d, int status);

/* What it has written, to standard error. */
void daemon_log_print(const struct test_daemon *d);

/* Waits until the worker that is not @old serves; stores it. */
void daemon_wait_worker(struct test_daemon *d, pid_t old);
/* SIGKILL; another one serves when it returns, and fsck has found nothing. */
void daemon_kill_worker(struct test_daemon *d);
/* The same in two steps: no worker is there in between. */
void daemon_worker_away(struct test_daemon *d);
void daemon_worker_return(struct test_daemon *d);
/*
 * In the worker's name: the keeper drops the descriptor of an extent and, if @fd is
 * one, has that instead.  The worker is to be killed then.  False: we may not.
 */
bool daemon_put_extent(const struct test_daemon *d, uint32_t id, int fd);
/*
 * Waits until no session, page or quarantined frame is left, nor any fd; then
 * fsck finds nothing.
 */
void daemon_wait_quiet(struct test_daemon *d);

/* The daemon that all tests of a program share, ... */
extern struct test_daemon daemon_of_test;
/* ... how it is started, as daemon_start(), ... */
extern const char *const *daemon_of_test_args;
int daemon_group_setup(void **state);
/* ... and what must be left of it when they have run. */
int daemon_group_teardown(void **state);

#define daemon_run_tests(tests, args)                                          \
	(daemon_of_test_args = (args),                                         \
	 cmocka_run_group_tests(tests, daemon_group_setup,                     \
				daemon_group_teardown)                         \
		 ? 1                                                           \
		 : 0)

/* Runs synapsed to its end; returns the wait status, and what it wrote. */
int daemon_run(const char *const *args, char *ret_log, size_t max);

/* One question on a connection of its own; returns the answer's error. */
int ctl_ask(const char *path, uint32_t op, uint64_t arg, void *ret_records,
	    uint32_t max, uint32_t each, struct syn_msg_ctl_reply *ret);
/* From a cursor on. */
int ctl_ask_at(const char *path, uint32_t op, uint64_t cursor, uint64_t arg,
	       void *ret_records, uint32_t max, uint32_t each,
	       struct syn_msg_ctl_reply *ret);
/* An order with all its arguments; the answer's error. */
int ctl_order(const char *path, uint32_t op, const uint64_t arg[4],
	      struct syn_msg_ctl_reply *ret);
/* One batch from *cursor on, which is 0 after the last. */
uint32_t ctl_pages(const char *path, uint64_t *cursor,
		   struct syn_ctl_page ret[SYN_CTL_BATCH]);
void ctl_status(const char *path, struct syn_ctl_status *ret);
/* Fails if fsck finds something; false: it could not compare all counts. */
bool ctl_fsck(const char *path);
/* The third is zero without a swap file. */
void ctl_tiers(const char *path, struct syn_ctl_tier ret[SYN_QUOTA_TIERS]);

int proc_fds(pid_t pid);
/* A child in which @fn has returned 0 and which waits for its end. */
pid_t child_of(int (*fn)(const char *path), const char *path);
void child_kill(pid_t pid, int signo);
void sleep_ms(unsigned int ms);
/* At least @seconds of patience for @what, in steps of 5 ms. */
#define test_wait(cond, seconds)                                               \
	do {                                                                   \
		uint64_t until_ns_ = syn_now_ns() + (seconds)*1000000000ull;   \
		bool met_;                                                     \
		while (!(met_ = (cond)) && syn_now_ns() < until_ns_)           \
			sleep_ms(5);                                           \
		if (!met_)                                                     \
			fail_msg("never: %s", #cond);                          \
	} while (0)

/**
 * struct raw_client - a session of bare messages.
 * @sock:	connection.
 * @bell_fd:	wakes the daemon.
 * @wake_fd:	wakes us.
 * @welcome:	the geometry.
 * @mine:	our segment.
 * @theirs:	the daemon's, read only.
 * @sq:		producer side.
 * @cq:		consumer side.
 * @space:	from SPACE_REPLY.
 * @window:	from WINDOW_REPLY.
 * @nr_extents:	EXTENT messages seen; their descriptors are closed.
 * @bye:	the last BYE; its type is 0 before.
 */
struct raw_client {
	int sock;
	int bell_fd;
	int wake_fd;
	struct syn_msg_welcome welcome;
	unsigned char *mine;
	unsigned char *theirs;
	struct syn_ring sq;
	struct syn_ring cq;
	struct syn_msg_space_reply space;
	struct syn_msg_window_reply window;
	unsigned int nr_extents;
	struct syn_msg_bye bye;
};

/* A HELLO that is good. */
void raw_hello(struct syn_msg_hello *ret);
/* Connects and attaches; 0, or the error of the BYE. */
int raw_attach(struct raw_client *c, const char *path);
/* With another number of page-table entries. */
int raw_attach_pages(struct raw_client *c, const char *path, uint32_t nr_pages);
/* With any HELLO. */
int raw_attach_hello(struct raw_client *c, const char *path,
		     const struct syn_msg_hello *as);
/* In good order, with a BYE. */
void raw_close(struct raw_client *c);
/* Opens the tests' space and a window of @slots; the answer's error. */
int raw_window(struct raw_client *c, uint32_t slots);
/* Reads messages until one of @type; false at the end of the connection. */
bool raw_read(struct raw_client *c, uint16_t type, void *ret, size_t bytes);

void raw_submit(struct raw_client *c, const struct syn_sqe *sqe,
		const void *vec, size_t bytes);
/* False when none comes in @ms or the connection ends. */
bool raw_reap(struct raw_client *c, struct syn_cqe *ret, void *ret_vec,
	      size_t bytes, int ms);
/* One request; the answer must come. */
struct syn_cqe raw_ask(struct raw_client *c, const struct syn_sqe *sqe,
		       const void *in, size_t in_bytes, void *out,
		       size_t out_bytes);
/* Waits for the daemon to end the session; its error. */
int raw_wait_bye(struct raw_client *c);

#endif
