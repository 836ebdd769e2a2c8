/* SPDX-License-Identifier: Apache-2.0 */
/* Asks over a control session, or looks into /proc. */
#include "tools/lat/daemon.h"

#include <stdio.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/ctl/query.h"

#define DAEMON_CLIENTS 4096u

/**
 * struct syn_lat_daemon - how to ask, and what is known.
 * @socket:	where; NULL: the default.
 * @pid:	given by the user; 0: ask.
 * @query:	the control session, NULL: none now.
 * @reason:	of the last refusal.
 * @nr_clients:	seen so far; the oldest of more than DAEMON_CLIENTS is forgotten.
 * @client:	see there.
 */
struct syn_lat_daemon {
	const char *socket;
	pid_t pid;
	struct syn_query *query;
	char reason[SYN_REASON_BYTES];
	size_t nr_clients;
	struct syn_lat_client client[DAEMON_CLIENTS];
};

int syn_lat_daemon_new(const char *socket, pid_t pid,
		       struct syn_lat_daemon **ret)
{
	struct syn_lat_daemon *daemon = syn_alloc(1, sizeof(*daemon));

	if (!daemon)
		return -ENOMEM;
	daemon->socket = socket;
	daemon->pid = pid;
	*ret = daemon;
	return 0;
}

struct syn_lat_daemon *syn_lat_daemon_free(struct syn_lat_daemon *daemon)
{
	if (daemon) {
		(void)syn_query_close(daemon->query);
		free(daemon);
	}
	return NULL;
}

const char *syn_lat_daemon_reason(const struct syn_lat_daemon *daemon)
{
	return daemon->reason;
}

const struct syn_lat_client *
syn_lat_daemon_client(const struct syn_lat_daemon *daemon, uint32_t worker,
		      uint32_t session)
{
	size_t nr = syn_min(daemon->nr_clients, (size_t)DAEMON_CLIENTS);

	for (size_t i = 0; i < nr; i++)
		if (daemon->client[i].worker == worker &&
		    daemon->client[i].session == session)
			return &daemon->client[i];
	return NULL;
}

/* ---- by process --------------------------------------------------------- */

static int parent_of(pid_t pid, pid_t *ret)
{
	char path[64];
	char text[512];
	const char *at;
	FILE *file;
	size_t nr;
	int parent;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return -ESRCH;
	nr = fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	text[nr] = '\0';
	/* The name before it may have anything in it. */
	at = strrchr(text, ')');
	if (!at || sscanf(at, ") %*c %d", &parent) != 1)
		return -EPROTO;
	*ret = parent;
	return 0;
}

static bool same_program(pid_t a, pid_t b)
{
	struct stat of_a, of_b;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)a);
	if (stat(path, &of_a) < 0)
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)b);
	return stat(path, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
	       of_a.st_ino == of_b.st_ino;
}

/* Once found it is the keeper that we follow: workers come and go. */
static int look_at_process(struct syn_lat_daemon *daemon, pid_t *ret_keeper)
{
	pid_t parent;
	int r;

	r = parent_of(daemon->pid, &parent);
	if (r) {
		(void)snprintf(daemon->reason, sizeof(daemon->reason),
			       "process %d", (int)daemon->pid);
		return r;
	}
	if (same_program(daemon->pid, parent))
		daemon->pid = parent;
	*ret_keeper = daemon->pid;
	return 0;
}

/* ---- by socket ---------------------------------------------------------- */

static void client_add(struct syn_lat_daemon *daemon, uint32_t worker,
		       const struct syn_ctl_client *record)
{
	struct syn_lat_client *client;

	if (syn_lat_daemon_client(daemon, worker, record->session))
		return;
	client = &daemon->client[daemon->nr_clients++ % DAEMON_CLIENTS];
	*client = (struct syn_lat_client){
		.worker = worker,
		.session = record->session,
		.pid = record->pid,
	};
	for (size_t i = 0; i < SYN_NAME_BYTES - 1 && record->name[i]; i++)
		client->name[i] =
			record->name[i] >= ' ' && record->name[i] <= '~'
				? record->name[i]
				: '?';
}

static int ask_clients(struct syn_lat_daemon *daemon, uint32_t worker)
{
	struct syn_answer answer = { 0 };
	uint64_t cursor;
	int r;

	do {
		cursor = answer.next;
		r = syn_query_ask(daemon->query, SYN_CTL_CLIENTS, cursor, 0,
				  sizeof(struct syn_ctl_client), &answer);
		if (r)
			return r;
		for (uint32_t i = 0; i < answer.nr; i++) {
			struct syn_ctl_client record;

			memcpy(&record,
			       (const char *)answer.records +
				       i * sizeof(record),
			       sizeof(record));
			client_add(daemon, worker, &record);
		}
	} while (answer.next > cursor);
	return 0;
}

static int ask_all(struct syn_lat_daemon *daemon, pid_t *ret_keeper,
		   pid_t *ret_runs)
{
	struct syn_ctl_status status;
	struct syn_answer answer;
	int r;

	r = syn_query_ask(daemon->query, SYN_CTL_STATUS, 0, 0, sizeof(status),
			  &answer);
	if (r)
		return r;
	if (answer.nr != 1)
		return -EPROTO;
	memcpy(&status, answer.records, sizeof(status));
	r = ask_clients(daemon, status.worker_pid);
	if (r)
		return r;
	*ret_keeper = (pid_t)status.keeper_pid;
	*ret_runs = (pid_t)status.worker_pid;
	return 0;
}

/* A worker that was replaced has left a session that is closed. */
static int look_at_socket(struct syn_lat_daemon *daemon, pid_t *ret_keeper,
			  pid_t *ret_runs)
{
	int r = -ENOTCONN;

	if (daemon->query)
		r = ask_all(daemon, ret_keeper, ret_runs);
	if (r == 0)
		return 0;
	daemon->query = syn_query_close(daemon->query);
	r = syn_query_open(daemon->socket, &daemon->query, daemon->reason);
	if (r) {
		daemon->query = NULL;
		return r;
	}
	r = ask_all(daemon, ret_keeper, ret_runs);
	if (r)
		(void)snprintf(daemon->reason, sizeof(daemon->reason), "%s",
			       syn_query_reason(daemon->query));
	return r;
}

int syn_lat_daemon_look(struct syn_lat_daemon *daemon, pid_t *ret_keeper,
			pid_t *ret_runs)
{
	int r;

	if (!daemon->pid)
		return look_at_socket(daemon, ret_keeper, ret_runs);
	r = look_at_process(daemon, ret_keeper);
	if (!r)
		*ret_runs = daemon->pid;
	return r;
}
