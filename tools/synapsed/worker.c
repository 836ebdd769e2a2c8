/* SPDX-License-Identifier: Apache-2.0 */
/* Wires device, memory manager and server together. */
#include "tools/synapsed/worker.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

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

/**
 * struct worker - all it is made of, in order of construction.
 * @keep:	who keeps, and what another worker had put.
 * @tenant:	its listening sockets, as the server takes them.
 * @memory:	kept memory.
 * @dev:	the device.
 * @disk:	the swap store, NULL: none.
 * @mm:		the memory manager.
 * @server:	the control thread's server.
 */
struct worker {
	struct syn_keep *keep;
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
	struct syn_keep *keep = ctx;

	return keep->ops->put(keep, kind, id, fds, nr_fds);
}

static void drop_session(void *ctx, uint32_t kind, uint32_t id)
{
	struct syn_keep *keep = ctx;

	keep->ops->drop(keep, kind, id);
}

static int take_session(void *ctx, uint32_t kind, uint32_t id, int *ret_fds)
{
	struct syn_keep *keep = ctx;

	return syn_hold_take(&keep->hold, kind, id, ret_fds);
}

static int leave_sessions(void *ctx)
{
	struct syn_keep *keep = ctx;

	return keep->ops->upgrade(keep);
}

static int memory_open(struct worker *worker, char *ret_why)
{
	const struct syn_config *config = &worker->keep->config;
	struct syn_memory *memory = &worker->memory;
	struct syn_mm_config mm_config;

	mm_config_set(&mm_config, config);
	syn_server_kept_records((uint32_t)config->max_sessions,
				&memory->want[SYN_MEMORY_SERVER]);
	syn_mm_kept_records(&mm_config, &memory->want[SYN_MEMORY_CORE]);
	return worker->keep->heir
		       ? syn_memory_adopt(memory, worker->keep, ret_why)
		       : syn_memory_new(memory, worker->keep);
}

/* ---- what is served ----------------------------------------------------- */

/* Explains itself what is wrong with the file. */
static int disk_open(struct worker *worker)
{
	const struct syn_config *config = &worker->keep->config;
	char why[SYN_SWAPFILE_WHY_BYTES];
	struct syn_disk was;
	bool known;
	int r;

	if (!config->nvme_file[0])
		return 0;
	known = worker->keep->heir &&
		syn_mm_kept_disk(
			syn_memory_part(&worker->memory, SYN_MEMORY_CORE),
			&was);
	r = syn_swapfile_open(config->nvme_file, known ? &was : NULL,
			      &worker->disk, why);
	if (r)
		syn_error("%s", why);
	else if (*why)
		syn_warning("%s; it is used as before", why);
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

	mm_config_set(&config, &worker->keep->config);
	config.dev = worker->dev;
	config.disk = worker->disk;
	config.kept = syn_memory_part(&worker->memory, SYN_MEMORY_CORE);
	if (worker->keep->heir)
		return mm_adopt(worker, &config, ret_why);
	return syn_mm_new(&worker->mm, &config);
}

static void tenants_set(struct worker *worker)
{
	const struct syn_keep *keep = worker->keep;

	for (uint32_t i = 0; i < keep->config.nr_tenants; i++) {
		struct syn_server_tenant *tenant = &worker->tenant[i];

		tenant->listen_fd = keep->listener[i].fd;
		memcpy(tenant->dir, keep->listener[i].dir, sizeof(tenant->dir));
		memcpy(tenant->quota, keep->config.tenant[i].quota,
		       sizeof(tenant->quota));
	}
}

static int server_open(struct worker *worker)
{
	struct syn_keep *keep = worker->keep;
	struct syn_server_config config = {
		.tenants = worker->tenant,
		.nr_tenants = (uint32_t)keep->config.nr_tenants,
		.domain_by = (uint32_t)keep->config.domain_by,
		.mm = worker->mm,
		.dev_event_fd = worker->dev->ops->event_fd(worker->dev),
		.disk_event_fd =
			worker->disk ? worker->disk->ops->event_fd(worker->disk)
				     : -1,
		.lifeline_fd = keep->lifeline_fd,
		.epoch = keep->epoch,
		.keeper_pid = keep->keeper_pid,
		.admin_uid = geteuid(),
		.max_sessions = (uint32_t)keep->config.max_sessions,
		.keep = keep_session,
		.drop = drop_session,
		.take = keep->heir ? take_session : NULL,
		.leave = leave_sessions,
		.keep_ctx = keep,
		.kept = syn_memory_part(&worker->memory, SYN_MEMORY_SERVER),
	};
	struct rlimit limit;

	tenants_set(worker);
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
		syn_close(worker->keep->listener[i].fd);
}

/* What nobody asked for was put and never recorded, or not dropped in time. */
static void hold_let_go(struct syn_keep *keep)
{
	for (size_t i = 0; i < keep->hold.nr; i++) {
		const struct syn_held *held = &keep->hold.held[i];

		syn_failpoint();
		keep->ops->drop(keep, held->kind, held->id);
	}
	syn_hold_end(&keep->hold,
		     "the worker died before the session began; attach again");
}

/* As worker_open().  The first thing that is done to what others know. */
static int worker_take_over(struct worker *worker, char *ret_what)
{
	const char *why = "the kept memory";
	int r;

	syn_failpoint();
	r = syn_memory_hand_over(&worker->memory, worker->keep);
	if (!r)
		r = syn_server_adopt(worker->server, &why);
	if (r)
		(void)snprintf(ret_what, WHY_BYTES, "%s", why);
	else
		hold_let_go(worker->keep);
	return r;
}

/* -errno with what could not be done in @ret_what, "": it has been said. */
static int worker_open(struct worker *worker, char *ret_what)
{
	int r;

	ret_what[0] = '\0';
	r = worker->keep->ops->begin(worker->keep);
	if (r)
		return r;
	syn_log_set_level((enum syn_log_level)worker->keep->config.log_level);
	(void)snprintf(ret_what, WHY_BYTES, "the kept memory");
	r = memory_open(worker, ret_what);
	if (r)
		return r;
	ret_what[0] = '\0';
	r = syn_device_open(&worker->keep->config, worker->keep, &worker->dev);
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
	if (!r && worker->keep->heir)
		r = worker_take_over(worker, ret_what);
	return r;
}

/* Says why there will be no worker; who keeps decides what happens then. */
static void worker_complain(struct syn_keep *keep, const char *what, int error)
{
	char line[SYN_REASON_BYTES];

	(void)snprintf(line, sizeof(line), "%.80s%s%.28s",
		       *what ? what : "the worker could not start",
		       *what ? ": " : "", *what ? strerror(-error) : "");
	if (*what)
		syn_error("%s", line);
	if (keep->heir)
		keep->ops->refuse(keep, error, line);
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

int syn_worker_main(struct syn_keep *keep)
{
	struct worker worker = { .keep = keep, .memory.fd = -1 };
	char what[WHY_BYTES];
	int r;

	r = worker_open(&worker, what);
	if (r) {
		worker_complain(keep, what, r);
		/* What is kept stays as it is: another program may take it. */
		if (keep->heir)
			_exit(1);
		keep->ops->end(keep);
		worker_clear(&worker);
		return 1;
	}
	/* exec of /proc/self/exe named us after the link. */
	(void)prctl(PR_SET_NAME, "synapsed");
	signals_set(&worker);
	r = keep->ops->ready(keep);
	/* It serves nobody: all of it is the next one's. */
	if (r && keep->heir) {
		worker_complain(keep, "it is not ready", r);
		_exit(1);
	}
	if (!r)
		r = syn_server_run(worker.server);
	/* So does it when it is handed on. */
	if (r == SYN_SERVER_LEFT)
		_exit(0);
	if (r)
		syn_error("the worker ends: %s", strerror(-r));
	(void)signal(SIGTERM, SIG_IGN);
	keep->ops->end(keep);
	worker_clear(&worker);
	return r ? 1 : 0;
}
