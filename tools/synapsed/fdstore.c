/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of descriptors by name, over sd_notify(3). */
#include "tools/synapsed/fdstore.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/base/fault.h"
#include "ipc/conn.h"

#define STORE_FIRST	 64u
#define STORE_NAME_BYTES 48u
/* It reads what it manages anew in far less. */
#define STORE_PATIENCE_US 10000000u
/* Apart from those of the wire, which share the header. */
#define STORE_SET 288

/**
 * struct set_msg - what lies in the queue of a set's socket.
 * @msg:	header; its descriptors are the set's.
 * @set:	which.
 */
struct set_msg {
	struct syn_msg msg;
	struct syn_stored set;
};

/**
 * struct entry - a place in the store.
 * @set:	which; of no kind: it is not one of ours.
 * @fd:		its descriptors; -1 after the last.
 * @name:	systemd's.
 */
struct entry {
	struct syn_stored set;
	int fd[SYN_FDS_MAX];
	const char *name;
};

/* ---- messages ----------------------------------------------------------- */

static int store_notify(const char *state, const int *fds, unsigned int nr_fds)
{
	int r;

	if (syn_fault())
		return -ENOBUFS;
	do {
		r = sd_pid_notify_with_fds(0, 0, state, fds, nr_fds);
	} while (r == -EINTR);
	if (r < 0)
		return r;
	return r ? 0 : -ENOTCONN;
}

/* Nobody has the other end of a set's socket, so to systemd it hangs up. */
static int store_send(const char *name, int fd)
{
	char state[STORE_NAME_BYTES + 40];

	(void)snprintf(state, sizeof(state), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s",
		       name);
	return store_notify(state, &fd, 1);
}

/* Who fails to say so leaves it to the next worker, which finds no use for it. */
static void store_remove(const char *name)
{
	char state[STORE_NAME_BYTES + 40];

	(void)snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s",
		       name);
	syn_failpoint();
	(void)store_notify(state, NULL, 0);
}

/* All that was sent before has been looked at. */
static int store_barrier(void)
{
	int r;

	if (syn_fault())
		return -ETIMEDOUT;
	do {
		r = sd_notify_barrier(0, STORE_PATIENCE_US);
	} while (r == -EINTR);
	return r < 0 ? r : 0;
}

/* ---- sets --------------------------------------------------------------- */

/* Returns its length, with what parts it from another. */
static size_t set_name(const struct syn_stored *set, char *ret)
{
	return (size_t)snprintf(ret, STORE_NAME_BYTES,
				"%" PRIu32 "-%" PRIu32 "-%" PRIu64, set->kind,
				set->id, set->serial) +
	       1;
}

static int store_reserve(struct syn_fdstore *store)
{
	size_t max = store->max ? 2 * store->max : STORE_FIRST;
	struct syn_stored *more;

	if (store->nr < store->max)
		return 0;
	more = syn_alloc(max, sizeof(*more));
	if (!more)
		return -ENOMEM;
	if (store->nr)
		memcpy(more, store->set, store->nr * sizeof(*more));
	free(store->set);
	store->set = more;
	store->max = max;
	return 0;
}

/* There is room. */
static void store_add(struct syn_fdstore *store, const struct syn_stored *set)
{
	char name[STORE_NAME_BYTES];

	store->set[store->nr++] = *set;
	store->names_bytes += set_name(set, name);
}

void syn_fdstore_drop(struct syn_fdstore *store, uint32_t kind, uint32_t id)
{
	char name[STORE_NAME_BYTES];

	for (size_t i = 0; i < store->nr; i++) {
		struct syn_stored *set = &store->set[i];

		if (set->kind != kind || set->id != id)
			continue;
		store->names_bytes -= set_name(set, name);
		store_remove(name);
		*set = store->set[--store->nr];
		return;
	}
}

static int set_pack(const struct syn_stored *set, const int *fds,
		    unsigned int nr_fds, int *ret_ends)
{
	struct set_msg m = {
		.msg = { .type = STORE_SET, .size = sizeof(m) },
		.set = *set,
	};
	int ends[2];
	int r;

	if (syn_fault())
		return -EMFILE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	r = syn_conn_send(ends[0], &m.msg, fds, nr_fds);
	if (r) {
		syn_close(ends[0]);
		syn_close(ends[1]);
		return r;
	}
	memcpy(ret_ends, ends, sizeof(ends));
	return 0;
}

/*
 * systemd does not tell of what it has no room for, but closes it.  So we keep the
 * other end until it has looked: that hangs up when nobody has the set.
 */
static int set_send(const char *name, int *ends)
{
	int r = store_send(name, ends[1]);

	syn_closep(&ends[1]);
	syn_failpoint();
	if (!r)
		r = store_barrier();
	syn_failpoint();
	if (!r && syn_conn_poll(ends[0], 0))
		r = -ENOSPC;
	syn_closep(&ends[0]);
	return r;
}

int syn_fdstore_put(struct syn_fdstore *store, uint32_t kind, uint32_t id,
		    const int *fds, unsigned int nr_fds)
{
	const struct syn_stored set = {
		.kind = kind,
		.id = id,
		.serial = store->serial + 1,
	};
	char name[STORE_NAME_BYTES];
	int ends[2];
	int r;

	if (store->names_bytes + set_name(&set, name) > SYN_FDSTORE_NAMES_BYTES)
		return -E2BIG;
	r = store_reserve(store);
	if (!r)
		r = set_pack(&set, fds, nr_fds, ends);
	if (r)
		return r;
	store->serial++;
	r = set_send(name, ends);
	if (r) {
		store_remove(name);
		return r;
	}
	syn_fdstore_drop(store, kind, id);
	store_add(store, &set);
	return 0;
}

/* ---- the beginning ------------------------------------------------------ */

/* What is not a set is of no kind; -errno when it cannot be told. */
static int entry_look(struct entry *ret, int fd, const char *name)
{
	struct set_msg m;
	int r;

	*ret = (struct entry){ .name = name };
	r = syn_conn_peek(fd, &m, sizeof(m), ret->fd);
	syn_close(fd);
	if (r == -EMFILE || r == -ENOMEM)
		return r;
	if (r == (int)sizeof(m) && m.msg.type == STORE_SET)
		ret->set = m.set;
	else if (r > 0)
		syn_hold_close(ret->fd);
	return 0;
}

static int compare(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* The later of two comes first. */
static int entry_compare(const void *pa, const void *pb)
{
	const struct entry *a = pa;
	const struct entry *b = pb;
	int r = compare(a->set.kind, b->set.kind);

	if (!r)
		r = compare(a->set.id, b->set.id);
	return r ? r : compare(b->set.serial, a->set.serial);
}

static bool entry_counts(const struct syn_fdstore *store,
			 const struct entry *entry)
{
	const struct syn_stored *last;

	if (!entry->set.kind)
		return false;
	if (!store->nr)
		return true;
	last = &store->set[store->nr - 1];
	return last->kind != entry->set.kind || last->id != entry->set.id;
}

static int entry_take(struct syn_fdstore *store, struct syn_hold *hold,
		      const struct entry *entry)
{
	int r = store_reserve(store);

	if (!r)
		r = syn_hold_add(hold, entry->set.kind, entry->set.id,
				 entry->fd);
	if (!r)
		store_add(store, &entry->set);
	return r;
}

/* @entry is sorted. */
static int entries_take(struct syn_fdstore *store, struct syn_hold *hold,
			struct entry *entry, size_t nr)
{
	int r = 0;

	for (size_t i = 0; i < nr; i++) {
		store->serial = syn_max(store->serial, entry[i].set.serial);
		if (!r && entry_counts(store, &entry[i])) {
			r = entry_take(store, hold, &entry[i]);
			if (!r)
				continue;
		} else if (!r) {
			store_remove(entry[i].name);
		}
		syn_hold_close(entry[i].fd);
	}
	return r;
}

static int entries_look(struct syn_fdstore *store, struct syn_hold *hold,
			char *const *name, size_t nr)
{
	struct entry *entry = syn_alloc(nr, sizeof(*entry));
	int r = entry ? 0 : -ENOMEM;
	size_t i;

	for (i = 0; i < nr && !r; i++)
		r = entry_look(&entry[i], SD_LISTEN_FDS_START + (int)i,
			       name[i]);
	if (!r) {
		qsort(entry, nr, sizeof(*entry), entry_compare);
		r = entries_take(store, hold, entry, nr);
	} else {
		while (i-- > 0)
			syn_hold_close(entry[i].fd);
	}
	free(entry);
	return r;
}

int syn_fdstore_take(struct syn_fdstore *store, struct syn_hold *ret_hold)
{
	char **name = NULL;
	int nr;
	int r = 0;

	if (syn_fault())
		return -ENOMEM;
	nr = sd_listen_fds_with_names(1, &name);
	if (nr > 0)
		r = entries_look(store, ret_hold, name, (size_t)nr);
	for (int i = 0; i < nr; i++)
		free(name[i]);
	free(name);
	return nr < 0 ? nr : r;
}
