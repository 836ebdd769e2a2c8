/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manager on the host-emulated device, with fake clients whose segments are
 * plain memory, and an audit of everything that core derives.
 *
 * All calls of core that change something are made as the server makes them: a
 * worker may die in any of them, and the next one goes on (core-crash.h).
 */
#ifndef SYN_TEST_CORE_HARNESS_H
#define SYN_TEST_CORE_HARNESS_H

#include "test/test.h"

#include <synapse/abi.h>

#include "core/base/bits.h"
#include "core/io/simdisk.h"
#include "core/mm-internal.h"
#include "core/mm.h"
#include "kernels/dev-host.h"

#define MIB	       (1ull << 20)
#define CLIENT_PAGES   2048u
#define CLIENT_LINES   4u /* timelines */
#define CLIENT_EXTENTS 64u

#define WORLD_CLIENTS 8u

/*
 * One world: a device, perhaps a disk, kept memory and a manager.
 *
 * The next ones are the server's: the request at hand, and where it goes on when
 * its worker has died, after @recover.
 */
struct world {
	struct syn_dev *dev;
	struct syn_disk *disk;
	struct syn_mm *mm;
	void *kept;
	uint64_t now_ns;
	uint32_t next_id;
	struct syn_quota quota[SYN_QUOTA_TIERS]; /* of domains that are new */
	struct syn_mm_config config;
	struct client *client[WORLD_CLIENTS];
	jmp_buf env;
	void (*recover)(struct world *w);
	bool guarded;
	bool answered;
	bool again;
	int result;
	uint64_t cookie;
};

/* @what is done, from its beginning again whenever the worker dies in it. */
#define world_do(w, what)                                                      \
	do {                                                                   \
		while (_setjmp((w)->env))                                      \
			(w)->recover(w);                                       \
		(w)->guarded = true;                                           \
		what;                                                          \
		(w)->guarded = false;                                          \
	} while (0)

/* A request, which is answered once, whenever the worker dies. */
#define client_ask(c, call)                                                    \
	({                                                                     \
		struct world *world_ = (c)->world;                             \
                                                                               \
		world_->answered = false;                                      \
		world_->cookie++;                                              \
		world_do(                                                      \
			world_, if (!world_->answered) {                       \
				syn_mm_begin((c)->session, world_->cookie);    \
				world_->result = (call);                       \
				world_->answered = true;                       \
				syn_mm_end(world_->mm);                        \
			});                                                    \
		world_->result;                                                \
	})

/*
 * A question of the socket: whoever was not answered asks again, and then has what
 * it asked for, perhaps, as @call_again finds.
 */
#define client_question(c, call, call_again)                                   \
	({                                                                     \
		struct world *world_ = (c)->world;                             \
                                                                               \
		world_->answered = false;                                      \
		world_->again = false;                                         \
		world_do(                                                      \
			world_, if (!world_->answered) {                       \
				bool again_ = world_->again;                   \
                                                                               \
				world_->again = true;                          \
				world_->result = (call);                       \
				if (world_->result == -EEXIST && again_)       \
					world_->result = (call_again);         \
				world_->answered = true;                       \
			});                                                    \
		world_->result;                                                \
	})

struct client_extent {
	struct syn_msg_extent msg;
	char *base;
};

/* What a process would have: its segments, and the extents it maps. */
struct client {
	struct world *world;
	struct syn_session *session;
	uint32_t id;
	bool exited; /* its process has */
	uint64_t *pte;
	uint32_t *pin;
	struct syn_timeline *timeline;
	struct syn_loan *loan;
	uint32_t *sums;
	struct client_extent extent[CLIENT_EXTENTS];
	uint32_t nr_extents;
	uint64_t loans[SYN_LOAN_WORDS]; /* that it was told of */
};

void world_open(struct world *w, uint64_t hbm_bytes, uint64_t host_bytes,
		uint32_t max_pages, uint32_t low, uint32_t high);
/* The same with a swap file on @sim, and the ladder's codec. */
void world_open_swap(struct world *w, struct syn_mm_config *config,
		     struct syn_simdisk *sim);
/* The same on a device that maps HBM in granules, as GPUs do. */
void world_open_granule(struct world *w, struct syn_mm_config *config,
			struct syn_simdisk *sim, uint64_t granule);
/* Audits, frees, and sees that nothing is left. */
void world_close(struct world *w);

/* One poll, a little later; true if something moved. */
bool world_poll(struct world *w);
/* Polls until the device is idle and nothing moves any more. */
void world_settle(struct world *w);
void world_audit(const struct world *w);
struct syn_ctl_status world_stat(const struct world *w);
struct syn_ctl_tier world_tier(const struct world *w, uint32_t tier);

/* K and V of 1 layer, f16: tokens * heads * dim * 4 bytes. */
void space_fill(struct syn_msg_space *msg, uint32_t tokens, uint32_t heads,
		uint32_t dim);
uint32_t world_space(struct world *w, uint32_t tokens, uint32_t heads,
		     uint32_t dim);

int world_quota(struct world *w, uint32_t domain, uint32_t tier,
		const struct syn_quota *quota);
uint64_t world_evict(struct world *w, uint64_t max);

/* The index of test's domain @number, made with the world's quota if new. */
int world_domain(struct world *w, uint32_t number, uint32_t *ret);

/* The segments alone; syn_mm_session_new() may fail. */
void client_init(struct client *c, struct world *w);
void client_deinit(struct client *c);
int client_join(struct client *c, uint32_t domain);
int client_join_raw(struct client *c, uint32_t index);
void client_open(struct client *c, struct world *w, uint32_t domain);
/* It says goodbye, or is thrown out. */
void client_end(struct client *c);
/* Its process has exited. */
void client_close(struct client *c);
/* Its session goes on with a worker that adopts; -ENOENT: there is none. */
int client_adopt(struct client *c);
uint32_t client_window(struct client *c, uint32_t space, uint32_t slots);
int client_window_open(struct client *c, uint32_t space, uint32_t slots,
		       uint32_t *ret);
int client_window_open_coded(struct client *c, uint32_t space, uint32_t slots,
			     uint32_t coded_slots, uint32_t *ret);
/* On a space of which encoded pages are read as they are stored. */
uint32_t client_window_coded(struct client *c, uint32_t space, uint32_t slots,
			     uint32_t coded_slots);
/* Maps and unmaps what the daemon asks for. */
void client_extents(struct client *c);

/* As the ring's requests; a wait is polled through. */
int client_lease(struct client *c, uint32_t window, uint32_t nr,
		 uint64_t *ret_handles);
int client_fault(struct client *c, const uint64_t *handles, uint32_t nr,
		 struct syn_vec_fault *ret);
int client_release(struct client *c, uint64_t handle);
int client_commit(struct client *c, uint64_t handle, uint32_t tokens);
/* Sums of the page's bytes, ready at @value of timeline 0. */
int client_seal(struct client *c, uint64_t handle, uint64_t key,
		uint64_t value);
int client_lookup(struct client *c, uint32_t window, uint64_t key,
		  uint64_t *ret_handle, uint64_t *ret_miss);

int client_lookup_floor(struct client *c, uint32_t window, uint64_t floor,
			uint64_t key, uint64_t *ret_handle, uint64_t *ret_miss);

/* What PERSIST answers, at once or when it is durable. */
int client_persist_step(struct client *c, uint64_t handle);
int client_persist(struct client *c, uint64_t handle);

/* 0 and the address, or SYN_E_*. */
int client_pin(struct client *c, uint64_t handle, uint32_t **ret);
void client_unpin(struct client *c, uint64_t handle);
/* Pins, loading first if it must. */
int client_load(struct client *c, uint64_t handle, uint32_t **ret);
/* What it was told of, and nothing else, is out and has an entry. */
void client_audit(const struct client *c, uint32_t nr_leases);
/* Copies and compares sums: the status for LOADED. */
int client_execute(struct client *c, uint32_t loan);
int client_loaded(struct client *c, uint32_t loan, int status);
uint32_t client_state(const struct client *c, uint64_t handle);
/* Its slot holds it as it is stored. */
bool client_is_coded(const struct client *c, uint64_t handle);
uint32_t *client_slot(struct client *c, uint32_t window, uint32_t slot);
/* NULL: it is not mapped. */
uint32_t *client_slot_find(const struct client *c, uint32_t window,
			   uint32_t slot);
uint64_t client_bytes(const struct client *c, uint64_t handle);
struct syn_rec_page *client_page(const struct client *c, uint64_t handle);

/* A page full of what @seed says; written without a pin, as its writer may. */
void client_write(struct client *c, uint64_t handle, uint32_t seed);
/* Loads, compares, unpins; 0, SYN_E_* or -EBADMSG for other bytes. */
int client_check(struct client *c, uint64_t handle, uint32_t seed);
/* Lease, write, commit: a FULL page. */
uint64_t client_full(struct client *c, uint32_t window, uint32_t seed);
/* All of that, and seal under @key, ready at once. */
uint64_t client_sealed(struct client *c, uint32_t window, uint32_t seed,
		       uint64_t key);

#endif
