/* SPDX-License-Identifier: Apache-2.0 */
/* systemd keeps: its store, and what goes on when it starts a worker again. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "ipc/server/kept.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"
#include "test/sys/play-systemd.h"

#define SLOTS  4u
#define PAGES  8u
#define SEED   100u
#define DEATHS 5u /* as tools/synapsed/keep-systemd.c has it */
/* In the store when nobody is attached: listening socket, record, kept memory. */
#define ALONE 3u

static const char *const daemon_args[] = { "--hbm", "16M", "--host", "16M",
					   NULL };

static struct play *play;
static char play_path[] = "/tmp/synapse-play-XXXXXX";

static void play_setup(void)
{
	int fd = mkstemp(play_path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(*play)), 0);
	play = mmap(NULL, sizeof(*play), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    0);
	assert_ptr_not_equal(play, MAP_FAILED);
	(void)close(fd);
	assert_int_equal(setenv(PLAY_ENV, play_path, 1), 0);
}

static void service_start(struct test_daemon *d, uint64_t store_max)
{
	*play = (struct play){ .store_max = store_max };
	daemon_start(d, daemon_args);
}

/* Nobody waits for what is dropped. */
static void stored_wait(uint64_t nr)
{
	test_wait(play->nr_stored == nr, 20);
}

static uint64_t epoch_of(const struct test_daemon *d)
{
	struct syn_ctl_status status;

	ctl_status(d->socket, &status);
	return status.epoch;
}

/* The session is recorded, too: a worker that dies before that forgets it. */
static void attach(struct raw_client *c, const struct test_daemon *d)
{
	assert_int_equal(raw_attach(c, d->socket), 0);
	(void)epoch_of(d);
}

static bool log_has(const struct test_daemon *d, const char *text)
{
	static char log[65536];
	ssize_t n = pread(d->log_fd, log, sizeof(log) - 1, 0);

	log[syn_max(n, 0)] = '\0';
	return strstr(log, text);
}

static void log_expect(const struct test_daemon *d, const char *text)
{
	if (!log_has(d, text))
		daemon_log_print(d);
	assert_true(log_has(d, text));
}

/* ---- the store ---------------------------------------------------------- */

/* The worker was killed, or the store has what it has when nobody is attached. */
static bool settled(const struct test_daemon *d)
{
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS] = { 0 };
	struct syn_msg_ctl_reply reply;

	if (!play->kill_at)
		return true;
	return ctl_ask(d->socket, SYN_CTL_TIERS, 0, tier, SYN_QUOTA_TIERS,
		       sizeof(*tier), &reply) == 0 &&
	       play->nr_stored ==
		       ALONE + tier[0].nr_extents + tier[1].nr_extents;
}

/*
 * Each message to systemd is the last of some worker: sets are put and not
 * acknowledged, acknowledged and of nobody, dropped.
 */
static void test_dies_at_every_message(void **state)
{
	struct test_daemon d;
	uint64_t n = 0;
	bool died;

	(void)state;
	service_start(&d, 1000);
	do {
		pid_t old = d.worker;
		int r;

		play->nr_messages = 0;
		play->kill_at = ++n;
		r = engine_work(d.socket, SLOTS, PAGES, PAGES, n);
		test_wait(settled(&d), 20);
		died = play->kill_at == 0;
		play->kill_at = 0;
		if (died)
			daemon_wait_worker(&d, old);
		/* A handshake may end; then one attaches again. */
		if (r)
			assert_true(died);
		if (r)
			assert_int_equal(
				engine_work(d.socket, SLOTS, PAGES, PAGES, n),
				0);
		(void)ctl_fsck(d.socket);
	} while (died);
	/* Put and barrier of a session and of what it was given, and drops. */
	assert_true(n > 5);
	assert_int_equal(epoch_of(&d), n);
	assert_int_equal(play->nr_full, 0);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* So many fit, and one more does not; all who are in go on. */
static void test_full(void **state)
{
	const uint64_t max = ALONE + 2;
	struct syn_ctl_status status;
	struct raw_client c[3];
	struct test_daemon d;

	(void)state;
	service_start(&d, max);
	stored_wait(ALONE);
	attach(&c[0], &d);
	attach(&c[1], &d);
	stored_wait(max);
	assert_int_equal(play->nr_full, 0);
	assert_int_equal(raw_attach(&c[2], d.socket), -ENOSPC);
	assert_non_null(strstr(c[2].bye.reason, "descriptors"));
	assert_true(play->nr_full > 0);
	log_expect(&d, "FileDescriptorStoreMax");
	for (uint32_t i = 0; i < 3; i++) {
		daemon_kill_worker(&d);
		ctl_status(d.socket, &status);
		assert_int_equal(status.nr_sessions, 2);
		stored_wait(max);
	}
	raw_close(&c[1]);
	stored_wait(max - 1);
	attach(&c[1], &d);
	raw_close(&c[0]);
	raw_close(&c[1]);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* With a page pinned, and then without a connection, as no good engine would. */
static int hold_and_hang_up(const char *path)
{
	static struct engine e;
	int r = engine_open(&e, path, SLOTS);

	if (!r)
		r = engine_grow(&e, PAGES, SEED);
	if (!r)
		r = syn_load(e.client, &e.page[0], 1, SYN_FOREVER, NULL);
	for (int fd = 3; fd < 64; fd++)
		(void)shutdown(fd, SHUT_RDWR);
	return r;
}

static bool quarantined(const struct test_daemon *d)
{
	struct syn_ctl_status status;

	ctl_status(d->socket, &status);
	return status.nr_sessions == 1 && status.nr_quarantined > 0;
}

/* What hangs up stays: the session's frames are its own as long as it lives. */
static void test_hangs_up(void **state)
{
	struct test_daemon d;
	pid_t pid;

	(void)state;
	service_start(&d, 1000);
	pid = child_of(hold_and_hang_up, d.socket);
	test_wait(quarantined(&d), 20);
	daemon_kill_worker(&d);
	assert_true(quarantined(&d));
	daemon_worker_away(&d);
	daemon_worker_return(&d);
	assert_true(quarantined(&d));
	child_kill(pid, SIGKILL);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* Sockets whose queues hold one another, so that the kernel looks for such. */
static void sockets_waste(void)
{
	struct syn_msg msg = { .size = sizeof(msg) };
	int pair[2];

	for (int i = 0; i < 200; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair),
				 0);
		assert_int_equal(syn_conn_send(pair[0], &msg, &pair[1], 1), 0);
		assert_int_equal(syn_conn_send(pair[1], &msg, &pair[0], 1), 0);
		(void)close(pair[0]);
		(void)close(pair[1]);
	}
}

/*
 * While no worker runs a session's connection is in a queue and nowhere else, and
 * must not be taken for waste.
 */
static void test_no_waste(void **state)
{
	struct test_daemon d;
	struct engine e;

	(void)state;
	service_start(&d, 1000);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	for (int i = 0; i < 3; i++) {
		daemon_worker_away(&d);
		sockets_waste();
		sleep_ms(20);
		sockets_waste();
		daemon_worker_return(&d);
		for (uint32_t page = 0; page < e.nr; page++)
			assert_int_equal(engine_check(&e, page), 0);
	}
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* ---- who comes after ---------------------------------------------------- */

static int attach_late(const char *path)
{
	struct raw_client c;
	int r = raw_attach(&c, path);

	if (!r)
		raw_close(&c);
	return r;
}

/* Who connects while no worker runs is served by the next. */
static void test_clients_wait(void **state)
{
	struct test_daemon d;
	int status;
	pid_t pid;

	(void)state;
	service_start(&d, 1000);
	daemon_worker_away(&d);
	assert_int_equal(waitpid(d.worker, NULL, WNOHANG), -1);
	pid = fork_child();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(attach_late(d.socket) ? 1 : 0);
	sleep_ms(50);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	daemon_worker_return(&d);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* Fewer may die while they take over; after so many the next gives up. */
static void test_again_and_again(void **state)
{
	struct test_daemon d;
	struct raw_client c;

	(void)state;
	service_start(&d, 1000);
	for (uint64_t deaths = DEATHS - 1; deaths <= DEATHS; deaths++) {
		const uint64_t epoch = epoch_of(&d);

		attach(&c, &d);
		play->nr_doomed = deaths;
		daemon_kill_worker(&d);
		assert_int_equal(play->nr_doomed, 0);
		assert_int_equal(epoch_of(&d), epoch + deaths + 1);
		if (deaths < DEATHS)
			raw_close(&c);
	}
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	assert_non_null(strstr(c.bye.reason, "again and again"));
	raw_close(&c);
	assert_int_equal(engine_work(d.socket, SLOTS, PAGES, PAGES, SEED), 0);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* As if another version of the daemon had written what is kept. */
static void kept_damage(pid_t worker)
{
	const size_t at = offsetof(struct syn_rec_server, records.version);
	uint32_t version = 0;
	uint64_t start = 0;
	char line[512];
	char path[64];
	FILE *maps;
	int mem;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)worker);
	maps = fopen(path, "re");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "synapse-kept"))
			start = strtoull(line, NULL, 16);
	(void)fclose(maps);
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)worker);
	mem = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(mem, &version, 4, (off_t)(start + at)), 4);
	assert_int_equal(version, SYN_PEERS_VERSION);
	version++;
	assert_int_equal(pwrite(mem, &version, 4, (off_t)(start + at)), 4);
	(void)close(mem);
}

/* One refuses and says why, the next tells it and begins with nothing. */
static void test_refuses(void **state)
{
	struct test_daemon d;
	struct raw_client c;

	(void)state;
	service_start(&d, 1000);
	attach(&c, &d);
	kept_damage(d.worker);
	daemon_kill_worker(&d);
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	assert_non_null(strstr(c.bye.reason, "version (was"));
	raw_close(&c);
	assert_int_equal(epoch_of(&d), 3);
	assert_int_equal(engine_work(d.socket, SLOTS, PAGES, PAGES, SEED), 0);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* Who cannot even begin leaves all to those who come after. */
static void test_cannot_begin(void **state)
{
	struct test_daemon d;
	struct raw_client c;
	char away[sizeof(d.dir) + 8];

	(void)state;
	service_start(&d, 1000);
	attach(&c, &d);
	(void)snprintf(away, sizeof(away), "%s.gone", d.dir);
	daemon_worker_away(&d);
	play->restart_ms = 300;
	assert_int_equal(rename(d.dir, away), 0);
	assert_int_equal(kill(d.keeper, SIGCONT), 0);
	test_wait(log_has(&d, "no such directory"), 20);
	assert_int_equal(rename(away, d.dir), 0);
	daemon_wait_worker(&d, d.worker);
	play->restart_ms = 0;
	assert_int_equal(raw_window(&c, 2), 0);
	raw_close(&c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

static void conf_write(const char *path, const char *socket, const char *level,
		       unsigned int mib)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fprintf(file,
			    "[daemon]\nsocket = %s\nlog_level = %s\n"
			    "[hbm]\nbudget = %uM\n[host]\nbudget = 16M\n",
			    socket, level, mib) > 0);
	assert_int_equal(fclose(file), 0);
}

/* What is edited counts from the next start on, and sessions are told. */
static void test_other_configuration(void **state)
{
	char conf[] = "/tmp/synapse-conf-XXXXXX";
	const char *const args[] = { "--config", conf, NULL };
	struct syn_ctl_tier tier[SYN_QUOTA_TIERS];
	struct test_daemon d;
	struct raw_client c;
	int fd = mkstemp(conf);

	(void)state;
	assert_true(fd >= 0);
	(void)close(fd);
	conf_write(conf, "/unused", "info", 16);
	*play = (struct play){ .store_max = 1000 };
	daemon_start(&d, args);
	attach(&c, &d);
	conf_write(conf, "/unused", "debug", 16);
	daemon_kill_worker(&d);
	assert_int_equal(raw_window(&c, 2), 0);
	conf_write(conf, "/unused", "debug", 24);
	daemon_kill_worker(&d);
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	assert_non_null(strstr(c.bye.reason, "configuration"));
	raw_close(&c);
	ctl_tiers(d.socket, tier);
	assert_int_equal(tier[0].budget_bytes, 24u << 20);
	assert_int_equal(epoch_of(&d), 3);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
	assert_int_equal(unlink(conf), 0);
}

static uint32_t nr_sessions = 100;

/* All of them come back, and their names fit where systemd puts them. */
static void test_many(void **state)
{
	char max[16];
	const char *const args[] = { "--hbm",	       "16M", "--host", "16M",
				     "--max-sessions", max,   NULL };
	struct syn_ctl_status status;
	struct raw_client *c = calloc(nr_sessions, sizeof(*c));
	struct test_daemon d;

	(void)state;
	assert_non_null(c);
	(void)snprintf(max, sizeof(max), "%u", nr_sessions);
	*play = (struct play){ .store_max = nr_sessions + ALONE + 16 };
	daemon_start(&d, args);
	for (uint32_t i = 0; i < nr_sessions; i++)
		assert_int_equal(raw_attach(&c[i], d.socket), 0);
	(void)epoch_of(&d);
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t start_ns = syn_now_ns();
		pid_t old = d.worker;

		assert_int_equal(kill(old, SIGKILL), 0);
		daemon_wait_worker(&d, old);
		print_message("%u sessions go on after %llu ms\n", nr_sessions,
			      (unsigned long long)(syn_now_ns() - start_ns) /
				      1000000);
		ctl_status(d.socket, &status);
		assert_int_equal(status.nr_sessions, nr_sessions);
	}
	assert_int_equal(raw_window(&c[0], 1), 0);
	for (uint32_t i = 0; i < nr_sessions; i++)
		raw_close(&c[i]);
	free(c);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* ---- orders ------------------------------------------------------------- */

static void program_copy(const char *to)
{
	struct stat st;
	int in = open(TEST_SYNAPSED, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	assert_true(in >= 0 && out >= 0);
	assert_int_equal(fstat(in, &st), 0);
	for (off_t at = 0; at < st.st_size;)
		assert_true(sendfile(out, in, &at, (size_t)(st.st_size - at)) >
			    0);
	(void)close(in);
	(void)close(out);
}

/* The worker leaves, and what is on disk takes over; if something is there. */
static void test_upgrade(void **state)
{
	static const uint64_t none[4];
	char dir[] = "/tmp/synapse-program-XXXXXX";
	struct syn_msg_ctl_reply reply;
	struct test_daemon d;
	struct engine e;
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/synapsed", dir);
	program_copy(path);
	daemon_program = path;
	service_start(&d, 1000);
	assert_int_equal(engine_open(&e, d.socket, SLOTS), 0);
	assert_int_equal(engine_grow(&e, PAGES, SEED), 0);
	for (uint64_t i = 0; i < 3; i++) {
		pid_t old = d.worker;

		assert_int_equal(unlink(path), 0);
		assert_int_equal(
			ctl_order(d.socket, SYN_CTL_UPGRADE, none, &reply),
			-ENOENT);
		assert_int_equal(epoch_of(&d), 1 + i);
		program_copy(path);
		(void)ctl_order(d.socket, SYN_CTL_UPGRADE, none, &reply);
		daemon_wait_worker(&d, old);
		assert_int_equal(epoch_of(&d), 2 + i);
		for (uint32_t page = 0; page < e.nr; page++)
			assert_int_equal(engine_check(&e, page), 0);
	}
	assert_int_equal(engine_release(&e), 0);
	engine_close(&e);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
	daemon_program = TEST_SYNAPSED;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_stop_tells(void **state)
{
	struct test_daemon d;
	struct raw_client c;

	(void)state;
	service_start(&d, 1000);
	attach(&c, &d);
	daemon_stop(&d);
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	assert_non_null(strstr(c.bye.reason, "shutting down"));
	raw_close(&c);
}

/* Who tells the worker itself gets one that begins with nothing. */
static void test_worker_told(void **state)
{
	struct test_daemon d;
	struct raw_client c;

	(void)state;
	service_start(&d, 1000);
	assert_int_equal(engine_work(d.socket, SLOTS, PAGES, PAGES, SEED), 0);
	attach(&c, &d);
	assert_int_equal(kill(d.worker, SIGTERM), 0);
	assert_int_equal(raw_wait_bye(&c), -ESHUTDOWN);
	raw_close(&c);
	daemon_wait_worker(&d, d.worker);
	assert_int_equal(epoch_of(&d), 2);
	log_expect(&d, "sessions end: the daemon was stopped");
	stored_wait(ALONE);
	assert_int_equal(engine_work(d.socket, SLOTS, PAGES, PAGES, SEED), 0);
	daemon_wait_quiet(&d);
	daemon_stop(&d);
}

/* ---- started wrongly ---------------------------------------------------- */

static void start_fails(const char *why)
{
	char socket[] = "/tmp/synapse-none-XXXXXX";
	const char *const args[] = { "--systemd", "--socket", socket, NULL };
	char log[4096];
	int fd = mkstemp(socket);

	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(unlink(socket), 0);
	assert_int_equal(daemon_run(args, log, sizeof(log)), 1 << 8);
	if (!strstr(log, why))
		print_message("%s", log);
	assert_non_null(strstr(log, why));
	assert_int_equal(access(socket, F_OK), -1);
}

static void test_started_wrongly(void **state)
{
	(void)state;
	*play = (struct play){ .store_max = 0 };
	start_fails("FileDescriptorStoreMax=");
	/* There is room for the record and a listening socket, and no more. */
	*play = (struct play){ .store_max = 2 };
	start_fails("kept memory");
	assert_int_equal(unsetenv(DAEMON_MANAGER_ENV), 0);
	start_fails("Type=notify");
	assert_int_equal(setenv(DAEMON_MANAGER_ENV, TEST_PLAY_SYSTEMD, 1), 0);
}

/* A number of sessions is the long form. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dies_at_every_message),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_hangs_up),
		cmocka_unit_test(test_no_waste),
		cmocka_unit_test(test_clients_wait),
		cmocka_unit_test(test_again_and_again),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_cannot_begin),
		cmocka_unit_test(test_other_configuration),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_stop_tells),
		cmocka_unit_test(test_worker_told),
		cmocka_unit_test(test_started_wrongly),
	};
	int r;

	if (!SYN_HAVE_SYSTEMD)
		return TEST_SKIP;
	if (argc > 1)
		nr_sessions = (uint32_t)atoi(argv[1]);
	play_setup();
	(void)setenv(DAEMON_MANAGER_ENV, TEST_PLAY_SYSTEMD, 1);
	r = test_main(tests);
	(void)unlink(play_path);
	return r;
}
