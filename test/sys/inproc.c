/* SPDX-License-Identifier: Apache-2.0 */
/* Wires a daemon together without keeper and worker. */
#include "test/sys/inproc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/dev.h"
#include "core/mm.h"
#include "ipc/conn.h"
#include "kernels/dev-host.h"

#define INPROC_PAGES	4096
#define INPROC_SESSIONS 32

static int inproc_mm(struct inproc *p, uint64_t hbm_bytes, uint64_t host_bytes)
{
	struct syn_mm_config config = {
		.hbm_bytes = hbm_bytes,
		.host_bytes = host_bytes,
		.max_pages = INPROC_PAGES,
		.max_sessions = INPROC_SESSIONS,
		.low_permille = 100,
		.high_permille = 200,
		.codec = SYN_CODEC_H4, /* of spaces that allow it */
		.dev = p->dev,
	};

	p->kept = calloc(1, syn_mm_kept_bytes(&config));
	if (!p->kept)
		return -ENOMEM;
	config.kept = p->kept;
	return syn_mm_new(&p->mm, &config);
}

int inproc_init(struct inproc *p, uint64_t hbm_bytes, uint64_t host_bytes)
{
	const struct syn_dev_host_config dev_config = { 0 };
	int r;

	memset(p, 0, sizeof(*p));
	p->listen_fd = -1;
	(void)snprintf(p->dir, sizeof(p->dir), "/tmp/synapse-inproc-XXXXXX");
	if (!mkdtemp(p->dir))
		return -errno;
	(void)snprintf(p->socket, sizeof(p->socket), "%s/s", p->dir);
	r = syn_conn_listen(p->socket, 0600, &p->listen_fd);
	if (!r)
		r = syn_dev_host_open(&p->dev, &dev_config);
	if (!r)
		r = inproc_mm(p, hbm_bytes, host_bytes);
	if (r) {
		inproc_deinit(p);
		return r;
	}
	p->tenant = (struct syn_server_tenant){
		.listen_fd = p->listen_fd,
		.quota = { SYN_QUOTA_FREE, SYN_QUOTA_FREE, SYN_QUOTA_FREE },
	};
	memcpy(p->tenant.dir, p->dir, sizeof(p->dir));
	p->server_kept = calloc(1, syn_server_kept_bytes(INPROC_SESSIONS));
	if (!p->server_kept) {
		inproc_deinit(p);
		return -ENOMEM;
	}
	p->config = (struct syn_server_config){
		.tenants = &p->tenant,
		.nr_tenants = 1,
		.domain_by = SYN_SERVER_BY_SOCKET | SYN_SERVER_BY_UID |
			     SYN_SERVER_BY_CGROUP,
		.mm = p->mm,
		.dev_event_fd = p->dev->ops->event_fd(p->dev),
		.disk_event_fd = -1,
		.lifeline_fd = -1,
		.epoch = 1,
		.admin_uid = getuid(),
		.max_sessions = INPROC_SESSIONS,
		.max_fds = 4096,
		.kept = p->server_kept,
	};
	return 0;
}

void inproc_deinit(struct inproc *p)
{
	p->mm = syn_mm_free(p->mm);
	if (p->dev)
		p->dev->ops->close(p->dev);
	p->dev = NULL;
	free(p->kept);
	p->kept = NULL;
	free(p->server_kept);
	p->server_kept = NULL;
	syn_closep(&p->listen_fd);
	(void)unlink(p->socket);
	(void)rmdir(p->dir);
}

static void *inproc_run(void *arg)
{
	struct inproc *p = arg;

	return (void *)(intptr_t)syn_server_run(p->server);
}

int inproc_start(struct inproc *p)
{
	int r = syn_server_new(&p->server, &p->config);

	if (r)
		return r;
	r = pthread_create(&p->thread, NULL, inproc_run, p);
	if (r) {
		p->server = syn_server_free(p->server);
		return -r;
	}
	p->runs = true;
	return 0;
}

int inproc_stop(struct inproc *p)
{
	void *result = NULL;

	if (!p->runs)
		return 0;
	syn_server_stop(p->server);
	(void)pthread_join(p->thread, &result);
	p->runs = false;
	p->server = syn_server_free(p->server);
	return (int)(intptr_t)result;
}

int inproc_end(struct inproc *p)
{
	int r = inproc_stop(p);

	inproc_deinit(p);
	return r;
}
