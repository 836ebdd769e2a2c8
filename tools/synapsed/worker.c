/* SPDX-License-Identifier: Apache-2.0 */
/* Wires device, memory manager and server together. */
#include "tools/synapsed/worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "core/dev.h"
#include "core/disk.h"
#include "core/io/swapfile.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "ipc/server/server.h"
#include "tools/synapsed/device.h"
#include "tools/synapsed/keep.h"

/**
 * struct worker - all it is made of, in order of construction.
 * @sock:	to the keeper.
 * @start:	what the keeper said.
 * @listen:	the tenants' listening sockets, as the keeper said ...
 * @tenant:	... and as the server takes them.
 * @kept:	kept memory, mapped.
 * @dev:	the device.
 * @disk:	the swap store, NULL: none.
 * @mm:		the memory manager.
 * @server:	the control thread's server.
 */
struct worker {
	int sock;
	struct syn_keep_start start;
	struct syn_keep_listen listen[SYN_TENANTS_MAX];
	struct syn_server_tenant tenant[SYN_TENANTS_MAX];
	void *kept;
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

uint64_t syn_worker_kept_bytes(const struct syn_config *config)
{
	struct syn_mm_config mm_config;

	mm_config_set(&mm_config, config);
	return syn_mm_kept_bytes(&mm_config);
}

static int keep_session(void *ctx, uint32_t kind, uint32_t id, const int *fds,
			unsigned int nr_fds)
{
	const struct worker *worker = ctx;

	return syn_keep_put(worker->sock, kind, id, fds, nr_fds);
}

static void drop_session(void *ctx, uint32_t kind, uint32_t id)
{
	const struct worker *worker = ctx;

	syn_keep_drop(worker->sock, kind, id);
}

static int listen_receive(struct worker *worker, uint32_t i)
{
	struct syn_keep_listen *listen = &worker->listen[i];
	struct syn_server_tenant *tenant = &worker->tenant[i];
	int fds[SYN_FDS_MAX];
	int r;

	r = syn_conn_recv(worker->sock, listen, sizeof(*listen), fds);
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

	r = syn_conn_recv(worker->sock, &worker->start, sizeof(worker->start),
			  fds);
	if (r < 0)
		return r;
	if (r != (int)sizeof(worker->start) ||
	    worker->start.msg.type != SYN_KEEP_START ||
	    worker->start.msg.nr_fds != 1)
		return -EPROTO;
	r = syn_conn_segment_map(fds[0], worker->start.kept_bytes, 1,
				 &worker->kept);
	syn_close(fds[0]);
	for (i = 0; i < worker->start.config.nr_tenants && !r; i++)
		r = listen_receive(worker, i);
	return r;
}

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

static int mm_open(struct worker *worker)
{
	struct syn_mm_config config;

	mm_config_set(&config, &worker->start.config);
	config.dev = worker->dev;
	config.disk = worker->disk;
	config.kept = worker->kept;
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
		.lifeline_fd = worker->sock,
		.epoch = worker->start.epoch,
		.keeper_pid = worker->start.keeper_pid,
		.admin_uid = geteuid(),
		.max_sessions = (uint32_t)worker->start.config.max_sessions,
		.keep = keep_session,
		.drop = drop_session,
		.keep_ctx = worker,
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
	if (worker->kept)
		(void)munmap(worker->kept, worker->start.kept_bytes);
	for (i = 0; i < SYN_TENANTS_MAX; i++)
		syn_close(worker->tenant[i].listen_fd);
}

/* -errno with what could not be done in *ret_what, NULL: it has been said. */
static int worker_open(struct worker *worker, const char **ret_what)
{
	int r;

	*ret_what = "the keeper's message";
	r = start_receive(worker);
	if (r)
		return r;
	syn_log_set_level((enum syn_log_level)worker->start.config.log_level);
	*ret_what = NULL;
	r = syn_device_open(&worker->start.config, &worker->sock, &worker->dev);
	if (r)
		return r;
	r = disk_open(worker);
	if (r)
		return r;
	*ret_what = "the memory manager";
	r = mm_open(worker);
	if (r)
		return r;
	*ret_what = "the server";
	return server_open(worker);
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
	struct pollfd keeper = { .fd = worker->sock };
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
	struct worker worker = { .sock = sock };
	const char *what;
	uint32_t i;
	int r;

	for (i = 0; i < SYN_TENANTS_MAX; i++)
		worker.tenant[i].listen_fd = -1;
	r = worker_open(&worker, &what);
	if (r) {
		if (what)
			syn_error("%s: %s", what, strerror(-r));
		worker_clear(&worker);
		return 1;
	}
	/* exec of /proc/self/exe named us after the link. */
	(void)prctl(PR_SET_NAME, "synapsed");
	signals_set(&worker);
	r = syn_keep_ready(sock);
	if (!r)
		r = syn_server_run(worker.server);
	if (r)
		syn_error("the worker ends: %s", strerror(-r));
	(void)signal(SIGTERM, SIG_IGN);
	sockets_remove(&worker);
	worker_clear(&worker);
	return r ? 1 : 0;
}
