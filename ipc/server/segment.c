/* SPDX-License-Identifier: Apache-2.0 */
/* Layout, creation and mapping of a session's two segments. */
#include "ipc/server/segment.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/conn.h"

/* Tables begin on lines of their own; large ones on pages of their own. */
#define SEGMENT_LINE 128u
#define SEGMENT_PAGE 4096u

static uint64_t layout_take(uint64_t *at, uint64_t bytes, uint64_t align)
{
	uint64_t off = syn_align_up(*at, align);

	*at = off + bytes;
	return off;
}

/* The limits on both counts keep every sum far below 2^64. */
static void layout_set(struct syn_msg_welcome *g, uint32_t nr_pages,
		       uint32_t nr_timelines)
{
	uint64_t at = sizeof(struct syn_client_ctl);

	g->nr_pages = nr_pages;
	g->nr_timelines = nr_timelines;
	g->sqe_off = layout_take(&at, SYN_SQ_ENTRIES * sizeof(struct syn_sqe),
				 SEGMENT_LINE);
	g->timeline_off = layout_take(
		&at, (uint64_t)nr_timelines * sizeof(struct syn_timeline),
		SEGMENT_LINE);
	g->sq_vec_off =
		layout_take(&at, SYN_SQ_ENTRIES * SYN_VEC_BYTES, SEGMENT_PAGE);
	g->pin_off = layout_take(&at, (uint64_t)nr_pages * sizeof(uint32_t),
				 SEGMENT_PAGE);
	g->client_bytes = syn_align_up(at, SEGMENT_PAGE);

	at = sizeof(struct syn_daemon_ctl);
	g->cqe_off = layout_take(&at, SYN_CQ_ENTRIES * sizeof(struct syn_cqe),
				 SEGMENT_LINE);
	g->inflight_off = layout_take(
		&at,
		SYN_SQ_ENTRIES * (sizeof(struct syn_inflight) + SYN_VEC_BYTES),
		SEGMENT_PAGE);
	g->loan_off = layout_take(&at, SYN_LOANS_MAX * sizeof(struct syn_loan),
				  SEGMENT_LINE);
	g->cq_vec_off =
		layout_take(&at, SYN_CQ_ENTRIES * SYN_VEC_BYTES, SEGMENT_PAGE);
	g->sums_off = layout_take(
		&at, SYN_LOANS_MAX * SYN_TILES_MAX * sizeof(uint32_t),
		SEGMENT_PAGE);
	g->pte_off = layout_take(&at, (uint64_t)nr_pages * sizeof(uint64_t),
				 SEGMENT_PAGE);
	g->daemon_bytes = syn_align_up(at, SEGMENT_PAGE);
}

/*
 * The descriptor that a client gets cannot be mapped for writing, and another
 * uid cannot open the file behind it again.
 */
static int reopen_readonly(int fd, int *ret)
{
	char path[40];
	int r;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (syn_fault())
		return -EMFILE;
	r = open(path, O_RDONLY | O_CLOEXEC);
	if (r < 0)
		return -errno;
	*ret = r;
	return 0;
}

static int segments_map(struct syn_segments *seg)
{
	void *map;
	int r;

	r = syn_conn_segment_map(seg->client_fd, seg->geometry.client_bytes, 0,
				 &map);
	if (r)
		return r;
	seg->client = map;
	r = syn_conn_segment_map(seg->daemon_fd, seg->geometry.daemon_bytes, 1,
				 &map);
	if (r)
		return r;
	seg->daemon = map;
	return 0;
}

static int segments_open(struct syn_segments *seg)
{
	int r;

	r = syn_conn_segment_new("synapse-client", seg->geometry.client_bytes,
				 &seg->client_fd);
	if (r)
		return r;
	r = syn_conn_segment_new("synapse-daemon", seg->geometry.daemon_bytes,
				 &seg->daemon_fd);
	if (r)
		return r;
	r = reopen_readonly(seg->daemon_fd, &seg->shared_fd);
	return r ? r : segments_map(seg);
}

int syn_segments_init(struct syn_segments *seg, uint32_t nr_pages,
		      uint32_t nr_timelines)
{
	int r;

	memset(seg, 0, sizeof(*seg));
	seg->client_fd = -1;
	seg->daemon_fd = -1;
	seg->shared_fd = -1;
	layout_set(&seg->geometry, nr_pages, nr_timelines);
	r = segments_open(seg);
	if (r) {
		syn_segments_close_fds(seg);
		syn_segments_deinit(seg);
	}
	return r;
}

int syn_segments_adopt(struct syn_segments *seg,
		       const struct syn_msg_welcome *geometry, int client_fd,
		       int daemon_fd)
{
	struct syn_msg_welcome g = { 0 };
	int r = -EPROTO;

	*seg = (struct syn_segments){
		.client_fd = client_fd,
		.daemon_fd = daemon_fd,
		.shared_fd = -1,
	};
	layout_set(&g, geometry->nr_pages, geometry->nr_timelines);
	seg->geometry = g;
	if (!memcmp(&g, geometry, sizeof(g)))
		r = segments_map(seg);
	syn_segments_close_fds(seg);
	return r;
}

void syn_segments_close_fds(struct syn_segments *seg)
{
	syn_closep(&seg->client_fd);
	syn_closep(&seg->daemon_fd);
	syn_closep(&seg->shared_fd);
}

void syn_segments_deinit(struct syn_segments *seg)
{
	if (seg->client)
		(void)munmap(seg->client, seg->geometry.client_bytes);
	if (seg->daemon)
		(void)munmap(seg->daemon, seg->geometry.daemon_bytes);
	seg->client = NULL;
	seg->daemon = NULL;
}
