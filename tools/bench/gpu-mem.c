/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long memory takes to be usable: host extents made by one process,
 * imported by another, and extents of HBM.
 *
 * CUDA does not survive a fork: the importer is forked before this process
 * calls CUDA for the first time, so no GPU benchmark may run before this one.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/bench/gpu.h"

#define MEM_EXTENTS 32u /* of 256 MiB: 8 GiB */
#define MEM_HBM_NR  32u /* extents of HBM of one run */
#define CPU_PAGE    4096u

/**
 * struct told - what the importer answers, once for each request.
 * @r:		0 or -errno.
 * @import_ns:	all imported and mapped, for the GPU as a client does.
 */
struct told {
	int32_t r;
	uint64_t import_ns;
};

/* ---- the importer ------------------------------------------------------- */

static int fds_send(int sock, const int *fds)
{
	char control[CMSG_SPACE(MEM_EXTENTS * sizeof(int))] = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(MEM_EXTENTS * sizeof(int));
	memcpy(CMSG_DATA(head), fds, MEM_EXTENTS * sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* -EPIPE: there are no more. */
static int fds_recv(int sock, int *ret_fds)
{
	char control[CMSG_SPACE(MEM_EXTENTS * sizeof(int))];
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *head;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) <= 0)
		return -EPIPE;
	head = CMSG_FIRSTHDR(&msg);
	if (!head || head->cmsg_len != CMSG_LEN(MEM_EXTENTS * sizeof(int)))
		return -EPROTO;
	memcpy(ret_fds, CMSG_DATA(head), MEM_EXTENTS * sizeof(int));
	return 0;
}

/* A word of each page of the CPU's, so that none is left to be faulted in. */
static void mem_touch(const struct syn_gpu_mem *mem)
{
	volatile uint64_t *at = (volatile uint64_t *)(uintptr_t)mem->at;

	for (uint64_t i = 0; i < mem->bytes / 8; i += CPU_PAGE / 8)
		at[i] = i;
}

static void import_run(struct syn_gpu *gpu, const int *fds, struct told *ret)
{
	struct syn_gpu_mem mem[MEM_EXTENTS];
	uint64_t begin_ns = syn_now_ns();
	uint32_t nr = 0;
	int r = 0;

	while (nr < MEM_EXTENTS && !r) {
		r = syn_gpu_mem_import(gpu, SYN_TIER_HOST, fds[nr],
				       SYN_HOST_EXTENT, &mem[nr]);
		if (r)
			break;
		mem[nr].gpu_only = true;
		r = syn_gpu_mem_map(gpu, &mem[nr++], 0);
	}
	ret->import_ns = syn_now_ns() - begin_ns;
	ret->r = r;
	while (nr)
		syn_gpu_mem_free(gpu, &mem[--nr]);
	for (uint32_t i = 0; i < MEM_EXTENTS; i++)
		(void)close(fds[i]);
}

/* The GPU is opened with the first descriptors: that is no part of a run. */
static _Noreturn void importer(int sock)
{
	struct syn_gpu *gpu = NULL;
	int fds[MEM_EXTENTS];

	while (fds_recv(sock, fds) == 0) {
		struct told told = { 0 };

		if (!gpu)
			told.r = syn_gpu_open(&gpu, NULL);
		if (!told.r)
			import_run(gpu, fds, &told);
		if (write(sock, &told, sizeof(told)) != sizeof(told))
			break;
	}
	syn_gpu_close(gpu);
	_exit(0);
}

static int importer_start(pid_t *ret_pid, int *ret_sock)
{
	int socks[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		(void)close(socks[0]);
		(void)close(socks[1]);
		return -errno;
	}
	if (pid == 0) {
		(void)close(socks[0]);
		syn_cpu_free();
		importer(socks[1]);
	}
	(void)close(socks[1]);
	*ret_pid = pid;
	*ret_sock = socks[0];
	return 0;
}

/* ---- the exporter ------------------------------------------------------- */

static void seconds_figure(struct syn_bench *bench, const char *name,
			   enum syn_goal goal, double target, uint64_t ns)
{
	syn_figure_add(&bench->figures, "gpu-mem", name, "s", goal, target,
		       (double)ns / 1e9);
}

static int host_make(struct syn_bench *bench, struct syn_rig *rig,
		     struct syn_region *ret, bool counts)
{
	uint64_t begin_ns = syn_now_ns();
	uint64_t made_ns, touched_ns;
	int r;

	r = syn_region_open(rig, SYN_TIER_HOST, SYN_HOST_EXTENT, MEM_EXTENTS,
			    ret);
	made_ns = syn_now_ns();
	for (uint32_t i = 0; i < MEM_EXTENTS && !r; i++)
		mem_touch(&ret->mem[i]);
	touched_ns = syn_now_ns();
	if (r || !counts)
		return r;
	seconds_figure(bench, "8 GiB of host memory made", SYN_GOAL_NONE, 0,
		       made_ns - begin_ns);
	seconds_figure(bench, "then touched by one CPU", SYN_GOAL_NONE, 0,
		       touched_ns - made_ns);
	seconds_figure(bench, "8 GiB of host memory usable", SYN_GOAL_AT_MOST,
		       1, touched_ns - begin_ns);
	return 0;
}

static int host_import(struct syn_bench *bench, struct syn_rig *rig,
		       const struct syn_region *region, int sock, bool counts)
{
	int fds[MEM_EXTENTS];
	struct told told = { .r = -EPIPE };
	uint32_t nr = 0;
	int r = 0;

	while (nr < MEM_EXTENTS && !r) {
		r = syn_gpu_mem_export(rig->gpu, &region->mem[nr], &fds[nr]);
		nr += !r;
	}
	if (!r)
		r = fds_send(sock, fds);
	while (nr)
		(void)close(fds[--nr]);
	if (!r && read(sock, &told, sizeof(told)) != sizeof(told))
		r = -EPIPE;
	if (!r)
		r = told.r;
	if (r || !counts)
		return r;
	seconds_figure(bench, "imported and mapped elsewhere", SYN_GOAL_AT_MOST,
		       0.1, told.import_ns);
	return 0;
}

/* The median of many extents. */
static int hbm_run(struct syn_bench *bench, struct syn_rig *rig, bool counts)
{
	double us[MEM_HBM_NR];
	int r = 0;

	for (uint32_t i = 0; i < MEM_HBM_NR && !r; i++) {
		uint64_t begin_ns = syn_now_ns();
		struct syn_gpu_mem mem;
		int fd = -1;

		r = syn_gpu_mem_new(rig->gpu, SYN_TIER_HBM, 0, SYN_HBM_EXTENT,
				    &mem);
		if (r)
			break;
		r = syn_gpu_mem_map(rig->gpu, &mem, 0);
		if (!r)
			r = syn_gpu_mem_export(rig->gpu, &mem, &fd);
		us[i] = (double)(syn_now_ns() - begin_ns) / 1e3;
		(void)syn_close(fd);
		syn_gpu_mem_free(rig->gpu, &mem);
	}
	if (!r && counts)
		syn_figure_add(&bench->figures, "gpu-mem",
			       "64 MiB of HBM made, exported", "us",
			       SYN_GOAL_NONE, 0, syn_median(us, MEM_HBM_NR));
	return r;
}

/* The first run, which loads the driver's code, does not count. */
static int mem_measure(struct syn_bench *bench, struct syn_rig *rig, int sock)
{
	int r = 0;

	for (unsigned int run = 0; run <= bench->runs && !r; run++) {
		struct syn_region region;

		r = host_make(bench, rig, &region, run > 0);
		if (r)
			break;
		r = host_import(bench, rig, &region, sock, run > 0);
		syn_region_close(&region);
		if (!r)
			r = hbm_run(bench, rig, run > 0);
	}
	return r;
}

int syn_bench_gpu_mem(struct syn_bench *bench)
{
	struct syn_rig rig;
	pid_t pid = -1;
	int sock = -1;
	int r;

	r = importer_start(&pid, &sock);
	if (r)
		return syn_bench_fail("gpu-mem", r);
	r = syn_rig_open(bench, &rig);
	if (!r) {
		r = mem_measure(bench, &rig, sock);
		syn_rig_close(&rig);
	}
	(void)close(sock);
	(void)waitpid(pid, NULL, 0);
	if (r == -ENODEV)
		return 0;
	return r ? syn_bench_fail("gpu-mem", r) : 0;
}
