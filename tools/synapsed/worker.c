/* SPDX-License-Identifier: Apache-2.0 */
/* Wires device, memory manager and server together. */
#include "tools/synapsed/worker.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/log.h"
#include "core/dev.h"
#include "core/disk.h"
#include "core/io/swapfile.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "ipc/server/server.h"
#include "tools/synapsed/device.h"
#include "tools/synapsed/keep.h"
#include "tools/synapsed/memory.h"

/* Fits in what clients are told, with an error's text. */
#define WHY_BYTES SYN_MEMORY_WHY_BYTES

#define START_LEAST_BYTES                                                      \
	(offsetof(struct syn_keep_start, config) + SYN_CONFIG_LEAST_BYTES)

/**
 * struct worker - all it is made of, in order of construction.
 * @keep:	the keeper, and what another worker had put.
 * @start:	what the keeper said.
 * @listen:	the tenants' listening sockets, as the keeper said ...
 * @tenant:	... and as the server takes them.
 * @memory:	kept memory.
 * @dev:	the device.
 * @disk:	the swap store, NULL: none.
 * @mm:		the memory manager.
 * @server:	the control thread's server.
 */
struct worker {
	struct syn_keep keep;
	struct syn_keep_start start;
	struct syn_keep_listen listen[SYN_TENANTS_MAX];
	struct syn_server_tenant tenant[SYN_TENANTS_MAX];
	struct syn_memory memory;
	struct syn_dev *dev;
	struct syn_disk *disk;
	struct syn_mm *mm;
	struct syn_server *server;
};

/* For the signal handler; set once the server can be stopped. */
static struct syn_server *worker_stoppable;

static void on_terminate(int signo)
{
	(void)signo;
	syn_server_stop(worker_stoppable);
}

static void mm_config_set(struct syn_mm_config *to,
			  const struct syn_config *config)
{
	*to = (struct syn_mm_config){
		.hbm_bytes = config->hbm_bytes,
		.host_bytes = config->host_bytes,
		.max_pages = (uint32_t)config->max_pages,
		.max_sessions = (uint32_t)config->max_sessions,
		.low_permille = (uint32_t)config->low_permille,
		.high_permille = (uint32_t)config->high_permille,
		.codec = (uint32_t)config->codec,
	};
}

static int keep_session(void *ctx, uint32_t kind, uint32_t id, const int *fds,
			unsigned int nr_fds)
{
	const struct worker *worker = ctx;

	return syn_keep_put(worker->keep.sock, kind, id, fds, nr_fds);
}

static void drop_session(void *ctx, uint32_t kind, uint32_t id)
{
	const struct worker *worker = ctx;

	syn_keep_drop(worker->keep.sock, kind, id);
}

static int take_session(void *ctx, uint32_t kind, uint32_t id, int *ret_fds)
{
	struct worker *worker = ctx;

	return syn_hold_take(&worker->keep.hold, kind, id, ret_fds);
}

static int leave_sessions(void *ctx)
{
	const struct worker *worker = ctx;

	return syn_keep_upgrade(worker->keep.sock);
}

static int listen_receive(struct worker *worker, uint32_t i)
{
	struct syn_keep_listen *listen = &worker->listen[i];
	struct syn_server_tenant *tenant = &worker->tenant[i];
	int fds[SYN_FDS_MAX];
	int r;

	r = syn_conn_recv(worker->keep.sock, listen, sizeof(*listen), fds);
	if (r < 0)
		return r;
	if (r != (int)sizeof(*listen) || listen->msg.type != SYN_KEEP_LISTEN ||
	    listen->msg.nr_fds != 1)
		return -EPROTO;
	tenant->listen_fd = fds[0];
	memcpy(tenant->dir, listen->dir, sizeof(tenant->dir));
	memcpy(tenant->quota, worker->start.config.tenant[i].quota,
	       sizeof(tenant->quota));
	return 0;
}

static int start_receive(struct worker *worker)
{
	int fds[SYN_FDS_MAX];
	uint32_t i;
	int r;

	r = syn_conn_recv(worker->keep.sock, &worker->start,
			  sizeof(worker->start), fds);
	if (r < 0)
		return r;
	if (r < (int)START_LEAST_BYTES ||
	    worker->start.msg.type != SYN_KEEP_START ||
	    worker->start.msg.nr_fds)
		return -EPROTO;
	r = 0;
	for (i = 0; i < worker->start.config.nr_tenants && !r; i++)
		r = listen_receive(worker, i);
	return r ? r
		 : syn_keep_take(worker->keep.sock, worker->start.nr_held,
				 &worker->keep.hold);
}

/* Whether another worker was here before. */
static bool worker_is_heir(const struct worker *worker)
{
	return worker->start.nr_held;
}

static int memory_open(struct worker *worker, char *ret_why)
{
	const struct syn_config *config = &worker->start.config;
	struct syn_memory *memory = &worker->memory;
	struct syn_mm_config mm_config;

	mm_config_set(&mm_config, config);
	syn_server_kept_records((uint32_t)config->max_sessions,
				&memory->want[SYN_MEMORY_SERVER]);
	syn_mm_kept_records(&mm_config, &memory->want[SYN_MEMORY_CORE]);
	return worker_is_heir(worker)
		       ? syn_memory_adopt(memory, &worker->keep, ret_why)
		       : syn_memory_new(memory, &worker->keep);
}

/* ---- what is served ----------------------------------------------------- */

/* Explains itself what is wrong with the file. */
static int disk_open(struct worker *worker)
{
	const struct syn_config *config = &worker->start.config;
	char why[SYN_SWAPFILE_WHY_BYTES];
	int r;

	if (!config->nvme_file[0])
		return 0;
	r = syn_swapfile_open(config->nvme_file, &worker->disk, why);
	if (r)
		syn_error("%s", why);
	return r;
}

static int mm_adopt(struct worker *worker, const struct syn_mm_config *config,
		    char *ret_why)
{
	struct syn_misfit misfit = { 0 };
	int r = syn_mm_adopt(&worker->mm, config, &misfit);

	if (r && misfit.what)
		(void)snprintf(ret_why, WHY_BYTES,
			       "%s (was %" PRIu64 ", is %" PRIu64 ")",
			       misfit.what, misfit.was, misfit.is);
	return r;
}

static int mm_open(struct worker *worker, char *ret_why)
{
	struct syn_mm_config config;

	mm_config_set(&config, &worker->start.config);
	config.dev = worker->dev;
	config.disk = worker->disk;
	config.kept = syn_memory_part(&worker->memory, SYN_MEMORY_CORE);
	if (worker_is_heir(worker))
		return mm_adopt(worker, &config, ret_why);
	return syn_mm_new(&worker->mm, &config);
}

static int server_open(struct worker *worker)
{
	struct syn_server_config config = {
		.tenants = worker->tenant,
		.nr_tenants = (uint32_t)worker->start.config.nr_tenants,
		.domain_by = (uint32_t)worker->start.config.domain_by,
		.mm = worker->mm,
		.dev_event_fd = worker->dev->ops->event_fd(worker->dev),
		.disk_event_fd =
			worker->disk ? worker->disk->ops->event_fd(worker->disk)
				     : -1,
		.lifeline_fd = worker->keep.sock,
		.epoch = worker->start.epoch,
		.keeper_pid = worker->start.keeper_pid,
		.admin_uid = geteuid(),
		.max_sessions = (uint32_t)worker->start.config.max_sessions,
		.keep = keep_session,
		.drop = drop_session,
		.take = worker_is_heir(worker) ? take_session : NULL,
		.leave = leave_sessions,
		.keep_ctx = worker,
		.kept = syn_memory_part(&worker->memory, SYN_MEMORY_SERVER),
	};
	struct rlimit limit;

	memcpy(config.dev_uuid, worker->dev->uuid, sizeof(config.dev_uuid));
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	config.max_fds = (uint32_t)syn_min(limit.rlim_cur, (rlim_t)UINT32_MAX);
	return syn_server_new(&worker->server, &config);
}

static void worker_clear(struct worker *worker)
{
	uint32_t i;

	worker->server = syn_server_free(worker->server);
	worker->mm = syn_mm_free(worker->mm);
	if (worker->disk)
		worker->disk->ops->close(worker->disk);
	if (worker->dev)
		worker->dev->ops->close(worker->dev);
	syn_memory_close(&worker->memory);
	for (i = 0; i < SYN_TENANTS_MAX; i++)
		syn_close(worker->tenant[i].listen_fd);
}

/* What nobody asked for was put and never recorded, or not dropped in time. */
static void hold_let_go(struct worker *worker)
{
	for (size_t i = 0; i < worker->keep.hold.nr; i++) {
		const struct syn_held *held = &worker->keep.hold.held[i];

		syn_failpoint();
		syn_keep_drop(worker->keep.sock, held->kind, held->id);
	}
	syn_hold_end(&worker->keep.hold,
		     "the worker died before the session began; attach again");
}

/* As worker_open().  The first thing that is done to what others know. */
static int worker_take_over(struct worker *worker, char *ret_what)
{
	const char *why = "the kept memory";
	int r;

	syn_failpoint();
	r = syn_memory_hand_over(&worker->memory, &worker->keep);
	if (!r)
		r = syn_server_adopt(worker->server, &why);
	if (r)
		(void)snprintf(ret_what, WHY_BYTES, "%s", why);
	else
		hold_let_go(worker);
	return r;
}

/* -errno with what could not be done in @ret_what, "": it has been said. */
static int worker_open(struct worker *worker, char *ret_what)
{
	int r;

	r = start_receive(worker);
	if (r) {
		bool longer = worker->start.msg.size > sizeof(worker->start);

		(void)snprintf(ret_what, WHY_BYTES, "%s",
			       longer ? "the keeper is a newer program's"
				      : "the keeper's message");
		return r;
	}
	syn_log_set_level((enum syn_log_level)worker->start.config.log_level);
	(void)snprintf(ret_what, WHY_BYTES, "the kept memory");
	r = memory_open(worker, ret_what);
	if (r)
		return r;
	ret_what[0] = '\0';
	r = syn_device_open(&worker->start.config, &worker->keep, &worker->dev);
	if (!r)
		r = disk_open(worker);
	if (r)
		return r;
	(void)snprintf(ret_what, WHY_BYTES, "the memory manager");
	r = mm_open(worker, ret_what);
	if (r)
		return r;
	(void)snprintf(ret_what, WHY_BYTES, "the server");
	r = server_open(worker);
	if (!r && worker_is_heir(worker))
		r = worker_take_over(worker, ret_what);
	return r;
}

/* Says why there will be no worker; the keeper decides what happens then. */
static void worker_complain(const struct worker *worker, const char *what,
			    int error)
{
	char line[SYN_REASON_BYTES];

	(void)snprintf(line, sizeof(line), "%.80s%s%.28s",
		       *what ? what : "the worker could not start",
		       *what ? ": " : "", *what ? strerror(-error) : "");
	if (*what)
		syn_error("%s", line);
	if (worker_is_heir(worker))
		syn_keep_refuse(worker->keep.sock, line);
}

static void signals_set(struct worker *worker)
{
	struct sigaction action = { .sa_handler = on_terminate };

	worker_stoppable = worker->server;
	(void)sigaction(SIGTERM, &action, NULL);
	/* A terminal sends this to both; the keeper passes it on. */
	action.sa_handler = SIG_IGN;
	(void)sigaction(SIGINT, &action, NULL);
}

/* The keeper removes the sockets' files; when it was killed, nobody else can. */
static void sockets_remove(const struct worker *worker)
{
	const struct syn_config *config = &worker->start.config;
	struct pollfd keeper = { .fd = worker->keep.sock };
	struct stat st;
	uint32_t i;

	if (poll(&keeper, 1, 0) != 1 || !(keeper.revents & POLLHUP))
		return;
	for (i = 0; i < config->nr_tenants; i++)
		if (stat(config->tenant[i].socket, &st) == 0 &&
		    st.st_dev == worker->listen[i].dev &&
		    st.st_ino == worker->listen[i].ino)
			(void)unlink(config->tenant[i].socket);
}

int syn_worker_main(int sock)
{
	struct worker worker = { .keep.sock = sock, .memory.fd = -1 };
	char what[WHY_BYTES];
	uint32_t i;
	int r;

	for (i = 0; i < SYN_TENANTS_MAX; i++)
		worker.tenant[i].listen_fd = -1;
	r = worker_open(&worker, what);
	if (r) {
		worker_complain(&worker, what, r);
		/* What is kept stays as it is: another program may take it. */
		if (worker_is_heir(&worker))
			_exit(1);
		worker_clear(&worker);
		return 1;
	}
	/* exec of /proc/self/exe named us after the link. */
	(void)prctl(PR_SET_NAME, "synapsed");
	signals_set(&worker);
	r = syn_keep_ready(sock);
	if (!r)
		r = syn_server_run(worker.server);
	/* So does it when it is handed on. */
	if (r == SYN_SERVER_LEFT)
		_exit(0);
	if (r)
		syn_error("the worker ends: %s", strerror(-r));
	(void)signal(SIGTERM, SIG_IGN);
	sockets_remove(&worker);
	worker_clear(&worker);
	return r ? 1 : 0;
}
