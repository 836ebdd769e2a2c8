/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a recording: records into blocks, blocks into the file. */
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "ipc/client/client-internal.h"
#include "ipc/client/trace.h"

#define TRACE_BLOCK (64u << 10)
/* How long records are kept for a block that fills. */
#define TRACE_KEEP_NS 1000000000u
/* Batches of shares whose pages are remembered; a power of two. */
#define TRACE_ROWS  1024u
#define TRACE_ALIGN 8u
#define TRACE_CODES 512u

/* What is written is what lies in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little endian");

/**
 * struct row - the last batch of a sequence and layer.
 * @sequence:	which.
 * @layer:	the same.
 * @nr:		pages; 0: there was none.
 * @hash:	of their handles.
 */
struct row {
	uint64_t sequence;
	uint32_t layer;
	uint32_t nr;
	uint64_t hash;
};

/**
 * struct syn_trace - a recording.
 * @lock:	guards all that follows.
 * @fd:		the file; -1: the recording has ended.
 * @error:	what ended it, or 0.
 * @begin_ns:	when it began.
 * @kept_ns:	when the block got its first record.
 * @left:	bytes to come of the record that is being written, with padding.
 * @row:	by a hash of sequence and layer; guarded by the mutex of shares.
 * @block:	being filled; @block.bytes so far.
 * @bytes:	behind it.
 */
struct syn_trace {
	pthread_mutex_t lock;
	int fd;
	int error;
	uint64_t begin_ns;
	uint64_t kept_ns;
	size_t left;
	struct row row[TRACE_ROWS];
	struct syn_trace_block block;
	unsigned char bytes[TRACE_BLOCK];
};
_Static_assert(offsetof(struct syn_trace, bytes) ==
		       offsetof(struct syn_trace, block) +
			       sizeof(struct syn_trace_block),
	       "a block is written at once");

/* ---- blocks ------------------------------------------------------------- */

static void trace_fail(struct syn_trace *t, int r)
{
	t->error = r;
	t->fd = syn_close(t->fd);
}

static void file_write(struct syn_trace *t, const void *at, size_t bytes)
{
	const char *from = at;

	while (bytes && t->fd >= 0) {
		ssize_t n = 0;

		if (!syn_fault())
			n = write(t->fd, from, bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			trace_fail(t, n ? -errno : -EIO);
			return;
		}
		from += n;
		bytes -= (size_t)n;
	}
}

static void block_write(struct syn_trace *t)
{
	if (!t->block.bytes)
		return;
	t->block.hash = XXH32(t->bytes, t->block.bytes, t->block.number);
	file_write(t, &t->block, sizeof(t->block) + t->block.bytes);
	t->block.number++;
	t->block.bytes = 0;
}

static void stream_put(struct syn_trace *t, const void *at, size_t bytes)
{
	const char *from = at;

	t->left -= bytes;
	while (bytes) {
		size_t room = TRACE_BLOCK - t->block.bytes;
		size_t n = syn_min(bytes, room);

		memcpy(t->bytes + t->block.bytes, from, n);
		t->block.bytes += (uint32_t)n;
		from += n;
		bytes -= n;
		if (n == room)
			block_write(t);
	}
}

/* ---- records ------------------------------------------------------------ */

/* True with the mutex held, unless there is nothing to record to. */
static bool record_begin(struct syn_client *c, uint16_t type, size_t bytes)
{
	struct syn_trace *t = syn_load_acquire(&c->trace);
	struct syn_trace_record record = { .type = type };

	if (syn_likely(!t))
		return false;
	(void)pthread_mutex_lock(&t->lock);
	t->left = syn_align_up(sizeof(record) + bytes, TRACE_ALIGN);
	if (t->left > UINT32_MAX)
		trace_fail(t, -EFBIG);
	if (t->fd < 0) {
		(void)pthread_mutex_unlock(&t->lock);
		return false;
	}
	record.bytes = (uint32_t)t->left;
	record.time_ns = syn_now_ns() - t->begin_ns;
	if (!t->block.bytes)
		t->kept_ns = record.time_ns;
	stream_put(t, &record, sizeof(record));
	return true;
}

static void record_put(struct syn_client *c, const void *at, size_t bytes)
{
	stream_put(c->trace, at, bytes);
}

static void record_end(struct syn_client *c)
{
	static const char zero[TRACE_ALIGN];
	struct syn_trace *t = c->trace;

	stream_put(t, zero, t->left);
	(void)pthread_mutex_unlock(&t->lock);
}

void syn_trace_space(struct syn_client *c, const struct syn_msg_space *msg,
		     const struct syn_space *space)
{
	size_t components = msg->nr_components * sizeof(msg->component[0]);
	const struct syn_trace_space record = {
		.model = { msg->model[0], msg->model[1] },
		.identity = space->identity,
		.page_bytes = space->page_bytes,
		.space = space->id,
		.tokens = msg->tokens,
		.layers_per_page = msg->layers_per_page,
		.nr_components = msg->nr_components,
	};

	if (!record_begin(c, SYN_TRACE_SPACE, sizeof(record) + components))
		return;
	record_put(c, &record, sizeof(record));
	record_put(c, msg->component, components);
	record_end(c);
}

void syn_trace_pages(struct syn_client *c, uint16_t type, uint32_t space,
		     const uint64_t *pages, unsigned int nr)
{
	const struct syn_trace_pages record = { .space = space, .nr = nr };
	size_t bytes = nr * sizeof(*pages);

	if (!record_begin(c, type, sizeof(record) + bytes))
		return;
	record_put(c, &record, sizeof(record));
	record_put(c, pages, bytes);
	record_end(c);
}

void syn_trace_lookup(struct syn_client *c, uint32_t space,
		      const uint64_t (*keys)[2], unsigned int asked,
		      const uint64_t *pages, unsigned int found)
{
	const struct syn_trace_pages record = {
		.space = space,
		.nr = found,
		.asked = asked,
		.nr_keys = syn_min(found + 1, asked),
	};
	size_t handles = found * sizeof(*pages);
	size_t bytes = record.nr_keys * sizeof(*keys);

	if (!record_begin(c, SYN_TRACE_LOOKUP,
			  sizeof(record) + handles + bytes))
		return;
	record_put(c, &record, sizeof(record));
	record_put(c, pages, handles);
	record_put(c, keys, bytes);
	record_end(c);
}

void syn_trace_commit(struct syn_client *c, const uint64_t *pages,
		      const uint32_t *tokens, unsigned int nr)
{
	const struct syn_trace_pages record = { .nr = nr };
	size_t handles = nr * sizeof(*pages);
	size_t bytes = nr * sizeof(*tokens);

	if (!record_begin(c, SYN_TRACE_COMMIT,
			  sizeof(record) + handles + bytes))
		return;
	record_put(c, &record, sizeof(record));
	record_put(c, pages, handles);
	record_put(c, tokens, bytes);
	record_end(c);
}

void syn_trace_seal(struct syn_client *c, uint64_t page, const uint64_t key[2],
		    bool dup)
{
	const struct syn_trace_seal record = {
		.page = page,
		.key = { key[0], key[1] },
		.dup = dup,
	};

	if (!record_begin(c, SYN_TRACE_SEAL, sizeof(record)))
		return;
	record_put(c, &record, sizeof(record));
	record_end(c);
}

void syn_trace_report(struct syn_client *c, const struct syn_vec_share *shares,
		      unsigned int nr)
{
	const struct syn_trace_report record = { .nr = nr };
	size_t bytes = nr * sizeof(*shares);

	if (!record_begin(c, SYN_TRACE_REPORT, sizeof(record) + bytes))
		return;
	record_put(c, &record, sizeof(record));
	record_put(c, shares, bytes);
	record_end(c);
}

/* ---- shares ------------------------------------------------------------- */

/* To the nearest, ties to even; @x is no NaN and not negative. */
static uint16_t share_code(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return (uint16_t)((bits + 0x3fff + (bits >> 15 & 1)) >> 15);
}

static void shares_put(struct syn_client *c, const float *shares, size_t nr)
{
	uint16_t code[TRACE_CODES];

	for (size_t at = 0, n; at < nr; at += n) {
		n = syn_min(nr - at, (size_t)TRACE_CODES);
		for (size_t i = 0; i < n; i++)
			code[i] = share_code(shares[at + i]);
		record_put(c, code, n * sizeof(code[0]));
	}
}

/* How many pages need not be named; they are remembered for the next time. */
static uint32_t row_same(struct syn_trace *t,
			 const struct syn_shares_batch *info)
{
	const uint64_t id[2] = { info->sequence, info->layer };
	struct row *row =
		&t->row[XXH3_64bits(id, sizeof(id)) & (TRACE_ROWS - 1)];
	const uint64_t *pages = info->pages;
	uint32_t same = 0;

	if (row->sequence == info->sequence && row->layer == info->layer &&
	    row->nr <= info->nr_parts &&
	    row->hash == XXH3_64bits(pages, row->nr * sizeof(*pages)))
		same = row->nr;
	*row = (struct row){
		.sequence = info->sequence,
		.layer = info->layer,
		.nr = info->nr_parts,
		.hash = XXH3_64bits(pages, info->nr_parts * sizeof(*pages)),
	};
	return same;
}

void syn_trace_shares(struct syn_client *c, const struct syn_shares_batch *info,
		      const float *shares)
{
	struct syn_trace_shares record = {
		.sequence = info->sequence,
		.first = info->first,
		.layer = info->layer,
		.queries = info->queries,
		.kv_heads = info->kv_heads,
		.group = info->group,
		.nr = info->nr_parts,
	};
	size_t nr = (size_t)info->nr_parts * info->kv_heads;
	size_t pages;

	if (syn_likely(!syn_load_acquire(&c->trace)))
		return;
	/* Guarded by the mutex of shares. */
	record.same = row_same(c->trace, info);
	pages = (record.nr - record.same) * sizeof(*info->pages);
	if (!record_begin(c, SYN_TRACE_SHARES,
			  sizeof(record) + pages + nr * sizeof(uint16_t)))
		return;
	record_put(c, &record, sizeof(record));
	record_put(c, info->pages + record.same, pages);
	shares_put(c, shares, nr);
	record_end(c);
}

/* ---- begin and end ------------------------------------------------------ */

static void head_write(struct syn_trace *t, uint32_t session)
{
	struct syn_trace_head head = {
		.magic = { 'S', 'y', 'n', 't', 'r', 'a', 'c', 'e' },
		.version = SYN_TRACE_VERSION,
		.bytes = sizeof(head),
		.session = session,
	};
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	head.time_ns =
		(uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	head.hash = XXH32(&head, offsetof(struct syn_trace_head, hash), 0);
	file_write(t, &head, sizeof(head));
}

static int trace_open_locked(struct syn_client *c, struct syn_trace *t,
			     const char *path)
{
	if (c->trace)
		return -EBUSY;
	if (syn_fault())
		return -ENOMEM;
	t->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (t->fd < 0)
		return -errno;
	head_write(t, c->session);
	if (t->error)
		return t->error;
	syn_store_release(&c->trace, t);
	return 0;
}

int syn_trace_begin(struct syn_client *client, const char *path)
{
	SYN_KEEP_ERRNO;
	struct syn_trace *t;
	int r = syn_client_check(client);

	if (r)
		return r;
	t = syn_alloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->fd = -1;
	t->begin_ns = syn_now_ns();
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_mutex_lock(&client->lock);
	r = trace_open_locked(client, t, path);
	(void)pthread_mutex_unlock(&client->lock);
	if (r) {
		(void)pthread_mutex_destroy(&t->lock);
		free(t);
	}
	return r;
}

static int trace_end(struct syn_client *c)
{
	struct syn_trace *t = c->trace;
	int r;

	if (record_begin(c, SYN_TRACE_END, 0))
		record_end(c);
	(void)pthread_mutex_lock(&t->lock);
	if (t->fd >= 0)
		block_write(t);
	if (t->fd >= 0 && close(syn_steal_fd(&t->fd)))
		t->error = -errno;
	r = t->error;
	(void)pthread_mutex_unlock(&t->lock);
	return r;
}

int syn_trace_end(struct syn_client *client)
{
	SYN_KEEP_ERRNO;

	if (syn_client_check(client) == -ECHILD)
		return -ECHILD;
	return syn_load_acquire(&client->trace) ? trace_end(client) : -EINVAL;
}

void syn_trace_look(struct syn_client *c)
{
	struct syn_trace *t = syn_load_acquire(&c->trace);

	if (syn_likely(!t))
		return;
	(void)pthread_mutex_lock(&t->lock);
	if (t->fd >= 0 &&
	    syn_now_ns() - t->begin_ns - t->kept_ns >= TRACE_KEEP_NS)
		block_write(t);
	(void)pthread_mutex_unlock(&t->lock);
}

void syn_trace_free(struct syn_client *c, bool forked)
{
	struct syn_trace *t = c->trace;

	if (!t)
		return;
	if (forked) {
		t->fd = syn_close(t->fd);
	} else {
		(void)trace_end(c);
		(void)pthread_mutex_destroy(&t->lock);
	}
	free(t);
	c->trace = NULL;
}
