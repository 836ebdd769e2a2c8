/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers that die at failpoints, one after the other, while clients of all kinds
 * come, are stopped and killed, an operator turns every knob, and the disk fails.
 * No client may notice more than that its handshake ended or that there is no
 * room, and in the end nothing is left, lost or wrong.
 *
 *	campaign-crash [--every N] [--lives N] [--seed N] SYNAPSED
 *
 * It goes on until workers have died N times at each failpoint, or through so many
 * short lives of a daemon, and leaves out less without --lives.  SYNAPSED was built
 * with failpoints and a disk that can fail, see test/sys/crash-arm.c and crash-disk.c.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/io/swapfile.h"
#include "test/sys/crash-operator.h"
#include "test/sys/crash-parts.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define CLIENTS	    (CRASH_CLIENTS - 1) /* and a witness */
#define SWAP_BYTES  (48ull << 20)
#define LIFE_NS	    40000000000u
#define LIFE_DEATHS 60u /* then one of so many lives ends */
#define LIVES_ALL   9u	/* of three kinds, after which nothing is left unseen */
#define PATIENCE_NS 700000000u /* then a worker that does not die is killed */
#define DISK_AGAIN  60u /* operations until the next one fails, at most */
#define QUESTIONS   2u	/* of a session: for a geometry and a window */
#define LEFT	    6u	/* pages that outlive the daemon */

/**
 * struct child - a client's process.
 * @pid:	never 0 while the campaign runs.
 * @stopped:	turns until it goes on; 0: it does.
 */
struct child {
	pid_t pid;
	uint32_t stopped;
};

/**
 * struct campaign - all of it.
 * @every:	deaths at each failpoint that are to be reached.
 * @lives:	daemons, at most; 0: as many as it takes.
 * @seed:	printed, and given to all.
 * @disk:	there is a swap file.
 * @dir:	of the files that it makes.
 * @conf:	the daemon's configuration, ...
 * @tenant:	... in which clients have sockets that stay where they are.
 * @bad:	socket of daemons that do not start.
 * @swap:	the swap file.
 * @crash:	shared with the workers.
 * @world:	shared with the clients.
 * @client:	clients; the last is the witness.
 * @life:	the daemon that runs.
 * @killed:	workers that did not die by themselves.
 * @starts:	daemons that died before they served.
 * @client_kills: clients.
 * @client_stops: that were stopped.
 * @stopped_kills: that were killed while they were.
 * @disk_faults: operations that failed in a sweep, ...
 * @durable:	... and how often pages were durable all the same.
 */
struct campaign {
	uint64_t every;
	uint64_t lives;
	uint64_t seed;
	bool disk;
	char dir[64];
	char conf[96];
	char tenant[2][96];
	char bad[96];
	char swap[96];
	struct crash_table *crash;
	struct crash_world *world;
	struct child client[CLIENTS + 1];
	uint64_t life;
	uint64_t killed;
	uint64_t starts;
	uint64_t client_kills;
	uint64_t client_stops;
	uint64_t stopped_kills;
	uint64_t disk_faults;
	uint64_t durable;
	struct test_daemon d;
};

static uint64_t pick(struct campaign *c, uint64_t below)
{
	return engine_random(&c->seed) % below;
}

/* ---- clients ------------------------------------------------------------ */

static struct crash_client client_of(struct campaign *c, uint32_t i)
{
	return (struct crash_client){
		.socket = c->tenant[0],
		.tenant = c->tenant[1],
		.index = i,
		.disk = c->disk,
		.seed = engine_random(&c->seed),
		.crash = c->crash,
		.world = c->world,
	};
}

static void client_fork(struct campaign *c, uint32_t i)
{
	struct crash_client client = client_of(c, i);
	int r = 0;
	pid_t pid;

	/* Whoever was here may have died in it. */
	c->crash->sealing[i] = false;
	pid = fork_child();
	assert_true(pid >= 0);
	c->client[i] = (struct child){ .pid = pid };
	if (pid)
		return;
	(void)alarm(0);
	if (i == CLIENTS)
		r = crash_client_witness(&client, c->life);
	while (!syn_load_relaxed(&c->world->stop) && !r)
		r = crash_client_round(&client);
	_exit(-r);
}

/* Nobody but us kills one. */
static void client_ended(struct campaign *c, uint32_t i, int status)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		(void)fprintf(stderr, "client %d: %x\n", (int)c->client[i].pid,
			      (unsigned int)status);
		daemon_log_print(&c->d);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void clients_look(struct campaign *c)
{
	int status;

	for (uint32_t i = 0; i <= CLIENTS; i++) {
		if (!waitpid(c->client[i].pid, &status, WNOHANG))
			continue;
		client_ended(c, i, status);
		client_fork(c, i);
	}
}

static void client_kill(struct campaign *c, uint32_t i)
{
	int status;

	c->client_kills++;
	c->stopped_kills += c->client[i].stopped > 0;
	(void)kill(c->client[i].pid, SIGKILL);
	assert_int_equal(waitpid(c->client[i].pid, &status, 0),
			 c->client[i].pid);
	if (WIFEXITED(status))
		client_ended(c, i, status);
	client_fork(c, i);
}

/*
 * One of them is killed, stopped or let go on.  Half of them live in peace: who
 * waits for ever is not helped out of that.
 */
static void clients_disturb(struct campaign *c)
{
	uint32_t i = (uint32_t)pick(c, CLIENTS / 2);
	struct child *client = &c->client[i];

	for (uint32_t k = 0; k < CLIENTS; k++)
		if (c->client[k].stopped && !--c->client[k].stopped)
			(void)kill(c->client[k].pid, SIGCONT);
	switch (pick(c, 24)) {
	case 0:
		client_kill(c, i);
		break;
	case 1:
		if (client->stopped)
			break;
		(void)kill(client->pid, SIGSTOP);
		client->stopped = 1 + (uint32_t)pick(c, 20);
		c->client_stops++;
		break;
	}
}

static void clients_join(struct campaign *c)
{
	int status;

	for (uint32_t i = 0; i <= CLIENTS; i++)
		(void)kill(c->client[i].pid, SIGCONT);
	for (uint32_t i = 0; i <= CLIENTS; i++) {
		assert_int_equal(waitpid(c->client[i].pid, &status, 0),
				 c->client[i].pid);
		client_ended(c, i, status);
	}
}

/* ---- deaths ------------------------------------------------------------- */

/* Where no worker of this daemon comes by, and what lets them die there. */
static const char *const elsewhere[] = {
	"memory.c:",			    /* test-upgrade-grown.py --all */
	"fdstore.c:", "keep-systemd.c:",    /* test-systemd.c */
	" mem_adopt", " extent_tell_again", /* core-crash */
};

static bool point_here(const struct crash_point *point)
{
	for (size_t i = 0; i < syn_array_size(elsewhere); i++)
		if (strstr(point->name, elsewhere[i]))
			return false;
	return true;
}

static bool all_died(const struct campaign *c)
{
	const struct crash_table *crash = c->crash;

	for (uint64_t i = 0; i < crash->nr_points; i++)
		if (crash->point[i].nr < c->every &&
		    point_here(&crash->point[i]))
			return false;
	return crash->nr_points;
}

/* Whoever serves, or is about to. */
static void worker_kill(struct campaign *c)
{
	struct syn_msg_ctl_reply reply;
	struct syn_ctl_status status;

	if (ctl_ask(c->d.socket, SYN_CTL_STATUS, 0, &status, 1, sizeof(status),
		    &reply) ||
	    kill((pid_t)status.worker_pid, SIGKILL))
		return;
	c->crash->last = 0;
	c->killed++;
}

/* One that waits for a place where nobody comes by dies all the same. */
static void worker_watch(struct campaign *c, uint64_t *deaths, uint64_t *since)
{
	uint64_t now = syn_now_ns();

	if (syn_load_relaxed(&c->crash->nr_deaths) != *deaths) {
		*deaths = syn_load_relaxed(&c->crash->nr_deaths);
		*since = now;
	}
	if (now - *since < PATIENCE_NS)
		return;
	worker_kill(c);
	*since = now;
}

/* ---- a life ------------------------------------------------------------- */

/* Empty.  Where there is no direct I/O, the campaign has two tiers. */
static void swap_make(struct campaign *c)
{
	char why[SYN_SWAPFILE_WHY_BYTES];

	c->disk = !syn_swapfile_init(c->swap, SWAP_BYTES, true, why);
	if (!c->disk)
		print_message("no swap file: %s\n", why);
}

/* A daemon whose first worker dies has never been there. */
static void life_begin_badly(struct campaign *c)
{
	const char *const args[] = { "--config", c->conf, "--socket", c->bad,
				     NULL };
	char log[4096];

	c->crash->started = 0;
	c->crash->armed = CRASH_START;
	do {
		test_patience(120);
		assert_int_equal(daemon_run(args, log, sizeof(log)), 1 << 8);
		c->starts++;
	} while (!c->crash->started);
	c->crash->armed = CRASH_OFF;
	c->crash->unserved = 0;
}

static void life_start(struct campaign *c)
{
	const char *const args[] = { "--config", c->conf, NULL };

	daemon_start(&c->d, args);
}

/* The first of three begins with nothing, the last one has a disk that fails. */
static void life_begin(struct campaign *c)
{
	if (c->disk && c->life % 3 == 0)
		swap_make(c);
	/* A manager starts it again. */
	if (!getenv(DAEMON_MANAGER_ENV))
		life_begin_badly(c);
	life_start(c);
	*c->world = (struct crash_world){
		.lossy = c->disk && c->life % 3 == 2,
	};
}

/* What was said to be on disk is found by whoever comes after a restart. */
static void life_return(struct campaign *c)
{
	struct crash_client client = client_of(c, 0);

	if (c->disk && c->life % 3)
		assert_int_equal(crash_client_return(&client, c->life, LEFT),
				 0);
}

static void life_leave(struct campaign *c)
{
	struct crash_client client = client_of(c, 0);

	if (c->disk)
		assert_int_equal(crash_client_leave(&client, c->life + 1, LEFT),
				 0);
}

static bool life_is_over(const struct campaign *c, uint64_t began_ns,
			 uint64_t deaths)
{
	if (c->lives &&
	    syn_load_relaxed(&c->crash->nr_deaths) >= deaths + LIFE_DEATHS)
		return true;
	return syn_now_ns() - began_ns > LIFE_NS || all_died(c) ||
	       syn_load_relaxed(&c->world->spaces) >= CRASH_SPACES;
}

static void life_live(struct campaign *c)
{
	const uint64_t began_ns = syn_now_ns();
	const uint64_t died = c->crash->nr_deaths;
	uint64_t since = began_ns;
	uint64_t deaths = died;

	while (!life_is_over(c, began_ns, died)) {
		test_patience(120);
		crash_operator_act(c->d.socket, &c->seed);
		clients_disturb(c);
		clients_look(c);
		worker_watch(c, &deaths, &since);
	}
}

static void life_end(struct campaign *c)
{
	pid_t old;

	syn_store_relaxed(&c->crash->armed, CRASH_OFF);
	c->crash->disk.nth = 0;
	daemon_wait_worker(&c->d, 0);
	old = c->d.worker;
	(void)kill(old, SIGKILL);
	daemon_wait_worker(&c->d, old);
	crash_operator_admit(c->d.socket);
	syn_store_relaxed(&c->world->stop, true);
	clients_join(c);
	daemon_wait_quiet(&c->d);
}

static void life_report(const struct campaign *c)
{
	const struct crash_world *w = c->world;

	print_message("life %" PRIu64 "%s: %" PRIu64 " sessions, %" PRIu64
		      " without room, %" PRIu64 " pages found, %" PRIu64
		      " missed, %" PRIu64 " lost\n",
		      c->life, w->lossy ? ", disk fails" : "", w->rounds,
		      w->refused, w->found, w->missed, w->lost);
}

static void life(struct campaign *c)
{
	test_patience(120);
	life_begin(c);
	life_return(c);
	for (uint32_t i = 0; i <= CLIENTS; i++)
		client_fork(c, i);
	if (c->world->lossy) {
		c->crash->disk.again = DISK_AGAIN;
		c->crash->disk.nth = 1;
	}
	syn_store_relaxed(&c->crash->armed, CRASH_RUN);
	worker_kill(c);
	life_live(c);
	life_end(c);
	life_leave(c);
	life_report(c);
	daemon_stop(&c->d);
	c->life++;
}

/* ---- questions ---------------------------------------------------------- */

/* Where a question is taken from its socket, and where that is answered. */
static bool point_asks(const struct crash_point *point)
{
	return strstr(point->name, " syn_peers_take") ||
	       strstr(point->name, " message_take") ||
	       strstr(point->name, " tell_reply");
}

/* Who asks is answered, although the worker dies in it. */
static void question_try(struct campaign *c, uint64_t point, uint64_t nth)
{
	struct crash_client client = client_of(c, 0);
	pid_t old = c->d.worker;

	test_patience(30);
	crash_table_arm(c->crash, point, nth);
	(void)kill(old, SIGKILL);
	daemon_wait_worker(&c->d, old);
	assert_int_equal(crash_client_ask(&client), 0);
	c->crash->armed = CRASH_OFF;
	daemon_wait_worker(&c->d, 0);
}

/* ---- the disk ----------------------------------------------------------- */

/* Pages are made durable, or that is refused, while the worker dies. */
static bool disk_leave(struct campaign *c, uint64_t name)
{
	struct crash_client client = client_of(c, 0);
	uint64_t refused = c->world->refused;
	pid_t pid = fork_child();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		_exit(-crash_client_leave(&client, name, LEFT));
	sleep_ms((unsigned int)pick(c, 20));
	worker_kill(c);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return c->world->refused == refused;
}

/*
 * What the disk was said to have is found after a restart, unless it lied.  False
 * if nothing was left to fail.
 */
static bool disk_try(struct campaign *c, uint64_t kind, uint64_t nth,
		     uint64_t name)
{
	struct crash_disk *disk = &c->crash->disk;
	struct crash_client client;
	bool durable;

	test_patience(120);
	*disk = (struct crash_disk){ .nth = nth, .kind = kind };
	*c->world = (struct crash_world){ .lossy = true };
	life_start(c);
	durable = disk_leave(c, name);
	daemon_wait_quiet(&c->d);
	daemon_stop(&c->d);
	life_start(c);
	c->world->lossy = !durable || disk->nth || kind > CRASH_DISK_SHORT;
	client = client_of(c, 0);
	assert_int_equal(crash_client_return(&client, name, LEFT), 0);
	daemon_wait_quiet(&c->d);
	daemon_stop(&c->d);
	c->disk_faults += disk->nr[kind];
	c->durable += durable;
	return disk->nr[kind];
}

/* In the short form some are left out, more and more. */
static uint64_t disk_sweep(struct campaign *c, uint64_t kind, uint64_t name)
{
	uint64_t nth = 1;

	while (disk_try(c, kind, nth, name + nth))
		nth += c->lives ? 1 + nth / 2 : 1;
	return nth;
}

/* ---- all lives ---------------------------------------------------------- */

static void report_never(const struct crash_point *point)
{
	print_message("  never: %s, passed %" PRIu64 "\n", point->name,
		      point->passed);
}

static void report_held(const struct campaign *c)
{
	static const char *const name[CRASH_HELD_NR] = {
		[CRASH_PINS] = "pins",
		[CRASH_LOANS] = "loans",
		[CRASH_LEASES] = "leases",
		[CRASH_MOVES] = "moves",
		[CRASH_SWAPS] = "swap requests",
		[CRASH_SEALS] = "seals",
		[CRASH_REQUESTS] = "a request at hand",
		[CRASH_QUARANTINE] = "slots in quarantine",
		[CRASH_REDO] = "a change half done",
	};

	for (uint32_t i = 0; i < CRASH_HELD_NR; i++)
		print_message("  %8" PRIu64 " deaths with %s\n",
			      c->crash->held[i], name[i]);
}

static void report(const struct campaign *c, double seconds)
{
	const struct crash_table *crash = c->crash;
	uint64_t least = UINT64_MAX;
	uint64_t points = 0;
	uint64_t died = 0;

	for (uint64_t i = 0; i < crash->nr_points; i++) {
		const struct crash_point *point = &crash->point[i];

		if (!point_here(point))
			continue;
		points++;
		died += point->nr > 0;
		least = syn_min(least, point->nr);
		if (!point->nr)
			report_never(point);
	}
	report_held(c);
	print_message("%" PRIu64 " deaths at %" PRIu64 " of %" PRIu64
		      " failpoints, the least %" PRIu64 ", %" PRIu64
		      " workers killed besides, %" PRIu64
		      " daemons that did not start; %" PRIu64
		      " clients killed, %" PRIu64 " of them stopped, %" PRIu64
		      " stopped; %.0f s\n",
		      crash->nr_deaths, died, points, least, c->killed,
		      c->starts, c->client_kills, c->stopped_kills,
		      c->client_stops, seconds);
	/* Most died where nobody had before. */
	assert_true(died >= syn_min(crash->nr_deaths, points) / 4 * 3);
}

/* The long form leaves nothing out. */
static void check_all(const struct campaign *c)
{
	for (uint32_t i = 0; i < CRASH_HELD_NR; i++)
		assert_true(c->crash->held[i] > 0);
	for (uint32_t i = 0; i < CRASH_DISK_NR; i++)
		assert_true(c->crash->disk.nr[i] > 0);
	assert_true(c->stopped_kills > 0);
}

/* Some worker has come by each failpoint: none of them needs a GPU or a power cut. */
static void check_reached(const struct campaign *c)
{
	const struct crash_table *crash = c->crash;

	for (uint64_t i = 0; i < crash->nr_points; i++) {
		const struct crash_point *point = &crash->point[i];

		if (!point_here(point))
			continue;
		if (!point->passed)
			print_error("never: %s\n", point->name);
		assert_true(point->passed > 0);
	}
}

/* ---- start -------------------------------------------------------------- */

static void *shared_new(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static struct campaign campaign;

static void path_make(char *to, const char *dir, const char *name)
{
	(void)snprintf(to, sizeof(campaign.conf), "%.63s/%.30s", dir, name);
}

static void conf_write(const struct campaign *c)
{
	FILE *file = fopen(c->conf, "we");

	assert_non_null(file);
	(void)fprintf(file,
		      "[daemon]\nmax_pages = 2048\n"
		      "[hbm]\nbudget = 16M\n[host]\nbudget = 8M\n"
		      "[ladder]\nhost = h4\n"
		      "[tenant one]\nsocket = %s\n"
		      "[tenant other]\nsocket = %s\n",
		      c->tenant[0], c->tenant[1]);
	if (c->disk)
		(void)fprintf(file, "[nvme]\nfile = %s\n", c->swap);
	assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
	struct campaign *c = &campaign;
	char path[96];

	(void)state;
	(void)snprintf(c->dir, sizeof(c->dir), "/tmp/synapse-crash-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	path_make(c->conf, c->dir, "conf");
	path_make(c->bad, c->dir, "bad");
	for (uint32_t i = 0; i < 2; i++) {
		path_make(path, c->dir, i ? "other" : "one");
		assert_int_equal(mkdir(path, 0755), 0);
		path_make(c->tenant[i], path, "s");
	}
	path_make(path, c->dir, "table");
	path_make(c->swap, c->dir, "swap");
	swap_make(c);
	conf_write(c);
	c->world = shared_new(sizeof(*c->world));
	c->crash = crash_table_new(path);
	c->crash->seed = c->seed;
	c->crash->every = c->every;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "conf", "table", "swap" };
	const struct campaign *c = &campaign;
	char path[96];

	(void)state;
	for (size_t i = 0; i < syn_array_size(names); i++) {
		path_make(path, c->dir, names[i]);
		(void)unlink(path);
	}
	/* No daemon has left its socket. */
	for (uint32_t i = 0; i < 2; i++) {
		path_make(path, c->dir, i ? "other" : "one");
		assert_int_equal(rmdir(path), 0);
	}
	assert_int_equal(rmdir(c->dir), 0);
	return 0;
}

static void test_every_failpoint(void **state)
{
	struct campaign *c = &campaign;
	uint64_t began_ns = syn_now_ns();

	(void)state;
	print_message("seed %" PRIu64 "\n", c->seed);
	do {
		life(c);
		if (c->life == LIVES_ALL)
			check_reached(c);
	} while (!all_died(c) && c->life != c->lives);
	report(c, (double)(syn_now_ns() - began_ns) / 1e9);
	if (!c->lives)
		check_all(c);
}

/* In the long form each way to fail, else one of them. */
static void test_every_disk_operation(void **state)
{
	struct campaign *c = &campaign;
	uint64_t kind = c->lives ? c->seed % CRASH_DISK_NR : 0;
	uint64_t end = c->lives ? kind + 1 : CRASH_DISK_NR;
	uint64_t began_ns = syn_now_ns();
	uint64_t name = 1000;

	(void)state;
	if (!c->disk)
		skip();
	for (; kind < end; kind++)
		name += disk_sweep(c, kind, name);
	print_message("%" PRIu64 " operations of the disk failed, %" PRIu64
		      " times all was durable; %.0f s\n",
		      c->disk_faults, c->durable,
		      (double)(syn_now_ns() - began_ns) / 1e9);
	assert_true(c->disk_faults > 0);
}

static void test_every_question(void **state)
{
	struct campaign *c = &campaign;

	(void)state;
	life_start(c);
	for (uint64_t i = 0; i < c->crash->nr_points; i++)
		if (point_asks(&c->crash->point[i]))
			for (uint64_t nth = 1; nth <= QUESTIONS; nth++)
				question_try(c, i, nth);
	daemon_wait_quiet(&c->d);
	daemon_stop(&c->d);
	print_message("%" PRIu64 " deaths in a question\n",
		      c->crash->nr_deaths);
	assert_true(c->crash->nr_deaths > QUESTIONS);
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: campaign-crash [--every N] [--lives N] "
			      "[--seed N] SYNAPSED\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "every", required_argument, NULL, 'e' },
		{ "lives", required_argument, NULL, 'l' },
		{ "seed", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_question, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_every_failpoint, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_every_disk_operation,
						setup, teardown),
	};
	int option;

	campaign.every = 1;
	campaign.seed = syn_now_ns();
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'e')
			campaign.every = strtoull(optarg, NULL, 10);
		else if (option == 'l')
			campaign.lives = strtoull(optarg, NULL, 10);
		else if (option == 's')
			campaign.seed = strtoull(optarg, NULL, 10);
		else
			return usage();
	}
	if (optind != argc - 1)
		return usage();
	daemon_program = argv[optind];
	return test_main(tests);
}
