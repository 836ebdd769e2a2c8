/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that systemd started, and will start again. */
#include "tools/synapsed/keep-systemd.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/log.h"
#include "ipc/conn.h"

/* What is kept besides what the worker puts. */
#define SYSTEMD_LISTENER 32u /* its id: index of the tenant */
#define SYSTEMD_RECORD	 33u /* id 0 */

/* Workers that came no further than this will not do better. */
#define SYSTEMD_DEATHS 5u

/* Room for what a later program may have besides. */
#define SYSTEMD_CONFIG_BYTES 16384u

/**
 * struct worker_record - what workers have to say to the next, in a memfd.
 * @epoch:	of the last one.
 * @nr_begun:	workers that began since one served.
 * @config_bytes: what the last program that served knew of @config.
 * @reason:	why the next one is to begin with nothing; "": it goes on.
 * @config:	what is served.
 *
 * It stays the same one, so that a store without room keeps nobody from going on.
 */
struct worker_record {
	uint64_t epoch;
	uint64_t nr_begun;
	uint64_t config_bytes;
	char reason[SYN_REASON_BYTES];
	union {
		struct syn_config config;
		char config_room[SYSTEMD_CONFIG_BYTES];
	};
};
SYN_ABI_SIZE(struct worker_record,
	     24 + SYN_REASON_BYTES + SYSTEMD_CONFIG_BYTES);

static struct syn_keep_systemd *systemd_of(struct syn_keep *keep)
{
	return syn_container_of(keep, struct syn_keep_systemd, keep);
}

/* ---- put and drop ------------------------------------------------------- */

static int systemd_put(struct syn_keep *keep, uint32_t kind, uint32_t id,
		       const int *fds, unsigned int nr_fds)
{
	struct syn_keep_systemd *systemd = systemd_of(keep);
	int r = syn_fdstore_put(&systemd->store, kind, id, fds, nr_fds);

	if ((r == -ENOSPC || r == -E2BIG) && !systemd->full_said) {
		syn_error("systemd's descriptor store has no room: %s",
			  r == -E2BIG ? "it has as many names as there may be"
				      : "raise FileDescriptorStoreMax= of the "
					"unit");
		systemd->full_said = true;
	}
	return r;
}

static void systemd_drop(struct syn_keep *keep, uint32_t kind, uint32_t id)
{
	syn_fdstore_drop(&systemd_of(keep)->store, kind, id);
}

/* ---- the record --------------------------------------------------------- */

static int record_map(struct syn_keep_systemd *systemd, int fd)
{
	void *map;
	int r;

	r = syn_conn_segment_map(fd, sizeof(*systemd->record), 1, &map);
	if (!r)
		systemd->record = map;
	return r;
}

static int record_make(struct syn_keep_systemd *systemd)
{
	syn_cleanup(syn_closep) int fd = -1;
	int r;

	r = syn_conn_segment_new("synapse-worker", sizeof(*systemd->record),
				 &fd);
	if (!r)
		r = systemd_put(&systemd->keep, SYSTEMD_RECORD, 0, &fd, 1);
	return r ? r : record_map(systemd, fd);
}

/* -EPROTO: it is of another version; -ENOENT: there is none. */
static int record_take(struct syn_keep_systemd *systemd)
{
	int fds[SYN_FDS_MAX];
	struct stat st;
	int r;

	r = syn_hold_take(&systemd->keep.hold, SYSTEMD_RECORD, 0, fds);
	if (r)
		return r;
	if (fstat(fds[0], &st) < 0 || st.st_size != sizeof(*systemd->record))
		r = -EPROTO;
	if (!r)
		r = record_map(systemd, fds[0]);
	syn_hold_close(fds);
	return r;
}

/* ---- who was here before ------------------------------------------------ */

/* What both programs know of it, but for what is to be told. */
static bool config_same(const struct worker_record *record,
			const struct syn_config *config)
{
	struct syn_config now = *config;

	now.log_level = record->config.log_level;
	return memcmp(&record->config, &now,
		      syn_min(record->config_bytes, (uint64_t)sizeof(now))) ==
	       0;
}

static bool memory_held(const struct syn_hold *hold)
{
	for (size_t i = 0; i < hold->nr; i++)
		if (hold->held[i].kind == SYN_KEEP_MEMORY)
			return true;
	return false;
}

/* Why this worker cannot go on where another was; "": it can. */
static void past_judge(const struct worker_record *record,
		       const struct syn_keep *keep, char *ret_reason)
{
	const char *reason = "";

	if (!record)
		reason = "it was another version of the daemon";
	else if (*record->reason)
		reason = record->reason;
	else if (!memory_held(&keep->hold))
		reason = "the worker died before it served";
	else if (!config_same(record, &keep->config))
		reason = "the configuration has changed";
	else if (record->nr_begun >= SYSTEMD_DEATHS)
		reason = "workers died again and again while they took over";
	(void)snprintf(ret_reason, SYN_REASON_BYTES, "%.*s",
		       (int)SYN_REASON_BYTES - 1, reason);
}

/*
 * Kept memory goes first: without it whatever else is left does not count, should
 * this worker die meanwhile.
 */
static void past_end(struct syn_keep *keep, const char *reason)
{
	syn_error("sessions end: %s", reason);
	systemd_drop(keep, SYN_KEEP_MEMORY, 0);
	for (size_t i = 0; i < keep->hold.nr; i++) {
		const struct syn_held *held = &keep->hold.held[i];

		/* systemd may close its duplicate later than we listen. */
		if (held->kind == SYSTEMD_LISTENER)
			(void)shutdown(held->fd[0], SHUT_RDWR);
		syn_failpoint();
		systemd_drop(keep, held->kind, held->id);
	}
	syn_hold_end(&keep->hold, reason);
}

/* ---- this worker -------------------------------------------------------- */

/* Its file may have gone with a directory that was not preserved. */
static void listener_take(struct syn_keep *keep, uint32_t i)
{
	int fds[SYN_FDS_MAX];
	struct stat st;

	if (syn_hold_take(&keep->hold, SYSTEMD_LISTENER, i, fds))
		return;
	if (stat(keep->config.tenant[i].socket, &st) == 0 &&
	    S_ISSOCK(st.st_mode))
		keep->listener[i].fd = syn_steal_fd(&fds[0]);
	syn_hold_close(fds);
}

static int listeners_open(struct syn_keep *keep)
{
	const uint32_t nr = (uint32_t)keep->config.nr_tenants;
	bool stored[SYN_TENANTS_MAX];
	uint32_t i;
	int r;

	for (i = 0; i < nr; i++) {
		listener_take(keep, i);
		stored[i] = keep->listener[i].fd >= 0;
	}
	r = syn_listeners_open(&keep->config, keep->listener);
	/* Else clients are refused while no worker runs; no more than that. */
	for (i = 0; i < nr && !r; i++)
		if (!stored[i])
			(void)systemd_put(keep, SYSTEMD_LISTENER, i,
					  &keep->listener[i].fd, 1);
	return r;
}

/* -EINVAL after it has said what is missing. */
static int service_check(struct syn_keep_systemd *systemd)
{
	ssize_t n = readlink("/proc/self/exe", systemd->path,
			     sizeof(systemd->path) - 1);

	systemd->path[syn_max(n, 0)] = '\0';
	if (getenv("NOTIFY_SOCKET"))
		return 0;
	syn_error("--systemd: expected to be started by systemd, as a service "
		  "of Type=notify");
	return -EINVAL;
}

/* What was here is judged, and this worker counted. */
static int past_settle(struct syn_keep_systemd *systemd, bool *ret_heir)
{
	struct syn_keep *keep = &systemd->keep;
	char reason[SYN_REASON_BYTES] = "";
	int r = record_take(systemd);

	if (r && r != -ENOENT && r != -EPROTO)
		return r;
	*ret_heir = false;
	if (!r || keep->hold.nr) {
		past_judge(systemd->record, keep, reason);
		*ret_heir = !*reason;
	}
	if (*reason)
		past_end(keep, reason);
	if (!systemd->record)
		r = record_make(systemd);
	if (r)
		return r;
	if (!*ret_heir) {
		systemd->record->config_bytes = 0;
		systemd->record->nr_begun = 0;
		syn_failpoint();
		systemd->record->reason[0] = '\0';
	}
	systemd->record->nr_begun++;
	systemd->record->epoch++;
	return 0;
}

static int systemd_take(struct syn_keep_systemd *systemd)
{
	struct syn_keep *keep = &systemd->keep;
	bool heir;
	int r;

	keep->keeper_pid = (uint32_t)getppid();
	r = syn_fdstore_take(&systemd->store, &keep->hold);
	if (!r)
		r = past_settle(systemd, &heir);
	if (!r)
		r = listeners_open(keep);
	/* Who has not come so far leaves all as it is. */
	if (r)
		return r;
	keep->epoch = systemd->record->epoch;
	keep->heir = heir;
	return 0;
}

static int systemd_begin(struct syn_keep *keep)
{
	struct syn_keep_systemd *systemd = systemd_of(keep);
	int r = service_check(systemd);

	if (r)
		return r;
	r = systemd_take(systemd);
	if (r)
		syn_error("systemd's descriptor store: %s", strerror(-r));
	return r;
}

/* ---- what becomes of it ------------------------------------------------- */

static int systemd_ready(struct syn_keep *keep)
{
	struct worker_record *record = systemd_of(keep)->record;

	syn_info("ready: %s, worker %d, epoch %llu", keep->config.socket,
		 (int)getpid(), (unsigned long long)keep->epoch);
	record->config = keep->config;
	syn_commit(&record->config_bytes, sizeof(record->config));
	record->nr_begun = 0;
	(void)sd_notify(0, "READY=1");
	return 0;
}

/* The next worker finds it, unless it is to try once more. */
static void systemd_refuse(struct syn_keep *keep, int error, const char *reason)
{
	if (syn_keep_error_passes(error))
		return;
	(void)snprintf(systemd_of(keep)->record->reason, SYN_REASON_BYTES, "%s",
		       reason);
}

/* The caller leaves, and systemd starts what is there now. */
static int systemd_upgrade(struct syn_keep *keep)
{
	return access(systemd_of(keep)->path, X_OK) < 0 ? -errno : 0;
}

static void systemd_end(struct syn_keep *keep)
{
	if (!keep->epoch)
		return;
	(void)sd_notify(0, "STOPPING=1");
	systemd_refuse(keep, -ESHUTDOWN, "the daemon was stopped");
	for (uint32_t i = 0; i < keep->config.nr_tenants; i++)
		syn_listener_unlink(&keep->config.tenant[i],
				    &keep->listener[i]);
}

static const struct syn_keep_ops systemd_ops = {
	.begin = systemd_begin,
	.ready = systemd_ready,
	.refuse = systemd_refuse,
	.put = systemd_put,
	/* What is stored once more takes the place of the first. */
	.replace = systemd_put,
	.drop = systemd_drop,
	.upgrade = systemd_upgrade,
	.end = systemd_end,
};

void syn_keep_systemd_init(struct syn_keep_systemd *systemd,
			   const struct syn_config *config)
{
	*systemd = (struct syn_keep_systemd){
		.keep.ops = &systemd_ops,
		.keep.lifeline_fd = -1,
		.keep.config = *config,
	};
	for (uint32_t i = 0; i < SYN_TENANTS_MAX; i++)
		systemd->keep.listener[i].fd = -1;
}

void syn_keep_systemd_deinit(struct syn_keep_systemd *systemd)
{
	if (systemd->record)
		(void)munmap(systemd->record, sizeof(*systemd->record));
	free(systemd->store.set);
	/* Its descriptors end with the process, and are in the store. */
	free(systemd->keep.hold.held);
}
