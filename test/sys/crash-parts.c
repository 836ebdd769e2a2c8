/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds of clients.  Each is a session that asks for something else, so that
 * together they lead a worker everywhere.
 *
 * What a sealed page holds is said by its key, so that whoever finds it knows
 * every byte; many seal the same.
 */
#include "test/sys/crash-parts.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <synapse/client.h>

#include "core/base/base.h"
#include "ipc/conn.h"
#include "kernels/codec/page.h"
#include "test/sys/engine.h"
#include "test/sys/harness.h"

#define TOKENS	   128u
#define DIM	   64u
#define HEADS	   2u
#define PAGES_MAX  64u
#define NAMES	   40u /* keys of a geometry that all seal and look for */
#define LEAVINGS   (1ull << 32) /* ... and from here on those that are left */
#define WITNESSES  (1ull << 33) /* ... and those of the witness, ... */
#define WITNESSED  8u		/* ... of which these are always there */
#define TIMEOUT_NS 4000000000u
/* Nobody else can be the reason of these. */
#define WRONG_BYTES (-EBADMSG)
#define NOT_THERE   (-EADDRNOTAVAIL)

/**
 * struct geometry - what pages look like.
 * @codec:	of keys and values.
 * @layers:	of a page.
 * @raw_head:	layers whose keys stay raw.
 * @coded:	pages are read as they are stored, ...
 * @coded_slots: ... and so many slots for that.
 */
struct geometry {
	uint16_t codec;
	uint32_t layers;
	uint8_t raw_head;
	uint8_t coded;
	uint32_t coded_slots;
};

/* Small pages; pages of more sums than a record holds; encoded ones. */
static const struct geometry geometries[] = {
	{ SYN_CODEC_RAW16, 1, 0, 0, 0 },
	{ SYN_CODEC_RAW16, 4, 0, 0, 0 },
	{ SYN_CODEC_H4, 2, 1, 1, 12 },
};

/**
 * struct user - a session.
 * @c:		whose.
 * @g:		of its pages.
 * @client:	the library's.
 * @space:	of @g.
 * @window:	its window ...
 * @coded:	... and the slots of pages that are encoded, ...
 * @layout:	... and how.
 * @timeline:	its own.
 * @nr:		pages that it leases.
 * @page:	their handles, ...
 * @seed:	... and what each is filled with.
 */
struct user {
	struct crash_client *c;
	const struct geometry *g;
	struct syn_client *client;
	struct syn_space space;
	struct syn_window *window;
	struct syn_planes coded;
	struct syn_layout layout;
	uint32_t timeline;
	uint32_t nr;
	uint64_t page[PAGES_MAX];
	uint64_t seed[PAGES_MAX];
};

/**
 * struct beginning - how a session begins.
 * @socket:	where.
 * @geometry:	of its pages.
 * @model:	whose they are.
 * @slots:	of its window; 0: it has none, or opens it itself.
 */
struct beginning {
	const char *socket;
	uint32_t geometry;
	uint64_t model;
	uint32_t slots;
};

static uint64_t pick(struct crash_client *c, uint64_t below)
{
	return engine_random(&c->seed) % below;
}

static void count(uint64_t *counter)
{
	(void)__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

/* ---- bytes -------------------------------------------------------------- */

/* Numbers that can be encoded: finite, of both signs. */
static void halves_fill(uint16_t *to, uint64_t bytes, uint64_t seed)
{
	for (uint64_t i = 0; i < bytes / sizeof(*to); i++) {
		uint32_t x =
			((uint32_t)seed * 77777u + (uint32_t)i) * 2654435761u;

		to[i] = (uint16_t)((x >> 31 << 15) |
				   (0x3400 + (x >> 16) % 0xc00));
	}
}

static void user_fill(const struct user *u, void *addr, uint64_t seed)
{
	if (u->g->coded)
		halves_fill(addr, u->space.page_bytes, seed);
	else
		page_fill(addr, u->space.page_bytes, seed);
}

static bool coded_matches(const struct user *u, const void *addr, uint64_t seed)
{
	static uint16_t halves[1 << 17];
	static unsigned char want[sizeof(halves)];
	uint32_t sums[2][SYN_TILES_MAX];
	uint16_t error[SYN_TILES_MAX];

	halves_fill(halves, u->space.page_bytes, seed);
	if (!syn_planes_have(&u->coded, addr))
		return memcmp(addr, halves, u->space.page_bytes) == 0;
	if (syn_page_encode(want, halves, &u->layout, 0, u->space.nr_tiles,
			    sums[0], sums[1], error))
		return false;
	return memcmp(addr, want, syn_layout_bytes(&u->layout)) == 0;
}

static bool user_matches(const struct user *u, const void *addr, uint64_t seed)
{
	if (u->g->coded)
		return coded_matches(u, addr, seed);
	return page_matches(addr, u->space.page_bytes, seed);
}

/* ---- a session ---------------------------------------------------------- */

static int user_attach(struct user *u, const char *path)
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);
	int r;

	opts.path = path;
	opts.name = "part";
	opts.nr_pages = 1024;
	r = syn_attach(&opts, &u->client, NULL);
	return r ? r : syn_timeline_new(u->client, &u->timeline);
}

static int user_space(struct user *u, uint64_t model)
{
	const struct geometry *g = u->g;
	const struct syn_component parts[] = {
		{ SYN_ROLE_K, SYN_DTYPE_F16, HEADS, DIM, g->codec, 0 },
		{ SYN_ROLE_V, SYN_DTYPE_F16, HEADS, DIM, g->codec, 0 },
	};
	struct syn_space_opts opts = SYN_OPTS(struct syn_space_opts);
	int r;

	opts.model[0] = 1;
	opts.model[1] = model;
	opts.tokens = TOKENS;
	opts.layers_per_page = g->layers;
	opts.nr_components = syn_array_size(parts);
	opts.components = parts;
	opts.raw_head = g->raw_head;
	opts.coded = g->coded;
	r = syn_space_define(u->client, &opts, &u->space);
	if (r || !g->coded)
		return r;
	return syn_layout_init(&u->layout, TOKENS, g->layers, 2, parts,
			       g->raw_head, 0);
}

static int user_window(struct user *u, uint32_t slots)
{
	struct syn_window_opts opts = SYN_OPTS(struct syn_window_opts);
	int r;

	opts.slots = slots;
	opts.coded_slots = u->g->coded_slots;
	opts.fidelity = u->g->coded ? 4 : 0;
	r = syn_window_open(u->client, &u->space, &opts, &u->window);
	/* The others' windows, or a quota, leave no room. */
	if (r == -EDQUOT)
		return SYN_E_BACKPRESSURE;
	if (!r)
		syn_window_coded(u->window, &u->coded);
	return r;
}

static int user_begin(struct user *u, const struct beginning *b)
{
	int r = user_space(u, b->model);

	if (!r && b->slots)
		r = user_window(u, b->slots);
	return r;
}

/* Before it was heard of: it is as if nobody had come. */
static bool handshake_ended(int error)
{
	return error == -ESHUTDOWN || error == -ECONNRESET || error == -EPIPE;
}

/* A handshake that was under way ends with its worker; a session does not. */
static int user_join(struct user *u, struct crash_client *c,
		     const struct beginning *b)
{
	int r = -ESHUTDOWN;

	memset(u, 0, sizeof(*u));
	u->c = c;
	u->g = &geometries[b->geometry];
	for (int i = 0; i < 100 && handshake_ended(r); i++) {
		if (i)
			sleep_ms(5);
		u->client = syn_detach(u->client);
		r = user_attach(u, b->socket);
	}
	/* The operator lets nobody in. */
	if (handshake_ended(r))
		return SYN_E_BACKPRESSURE;
	return r ? r : user_begin(u, b);
}

static int user_open(struct user *u, struct crash_client *c, uint32_t geometry,
		     uint32_t slots)
{
	return user_join(u, c,
			 &(struct beginning){ .socket = c->socket,
					      .geometry = geometry,
					      .model = 2,
					      .slots = slots });
}

/* What the session came to. */
static int user_close(struct user *u, int r)
{
	struct crash_world *world = u->c->world;

	bool failed = r == -EIO || r == -ENOSPC;

	if (r == SYN_E_LOST && world->lossy) {
		count(&world->lost);
		r = 0;
	} else if (r == SYN_E_BACKPRESSURE || r == -EAGAIN ||
		   (failed && world->lossy)) {
		count(&world->refused);
		r = 0;
	} else if (r) {
		(void)fprintf(stderr, "client %d: %d, %s\n", (int)getpid(), r,
			      u->client ? syn_client_reason(u->client) : "");
	}
	u->client = syn_detach(u->client);
	count(&world->rounds);
	return r > 0 ? -EPROTO : r;
}

/* ---- pages -------------------------------------------------------------- */

static uint64_t name_of(const struct user *u, uint64_t i)
{
	return (uint64_t)(u->g - geometries + 1) * 1000 + i;
}

static int user_write(struct user *u, uint32_t i)
{
	const uint32_t tokens = TOKENS;
	void *addr;
	int r;

	r = syn_pin(u->client, &u->page[i], 1, &addr);
	if (r)
		return r;
	user_fill(u, addr, u->seed[i]);
	syn_unpin(u->client, u->timeline, &u->page[i], 1);
	r = syn_commit(u->client, &u->page[i], &tokens, 1);
	/* It had left and come back meanwhile. */
	return r == -EILSEQ ? SYN_E_LOST : r;
}

static int user_page(struct user *u, uint64_t seed)
{
	int r;

	if (u->nr == PAGES_MAX)
		return -E2BIG;
	r = syn_lease(u->window, 1, TIMEOUT_NS, &u->page[u->nr]);
	if (r)
		return r;
	u->seed[u->nr++] = seed;
	return user_write(u, u->nr - 1);
}

static int user_grow(struct user *u, uint32_t nr)
{
	int r = 0;

	while (nr-- && !r)
		r = user_page(u, name_of(u, 1 + pick(u->c, NAMES)));
	return r;
}

static int page_check(struct user *u, const uint64_t *page, uint64_t seed)
{
	void *addr;
	int r;

	r = syn_load(u->client, page, 1, TIMEOUT_NS, &addr);
	if (r)
		return r;
	if (!user_matches(u, addr, seed))
		r = WRONG_BYTES;
	syn_unpin(u->client, u->timeline, page, 1);
	return r;
}

static int user_check(struct user *u)
{
	uint32_t i = (uint32_t)pick(u->c, u->nr);

	return page_check(u, &u->page[i], u->seed[i]);
}

/* What a page holds is its name. */
static int user_seal(struct user *u, uint32_t i, uint64_t value)
{
	const uint64_t key[2] = { u->seed[i], ~u->seed[i] };
	bool *sealing = &u->c->crash->sealing[u->c->index];
	int r;

	syn_store_relaxed(sealing, true);
	r = syn_seal(u->client, u->page[i], key, u->timeline, value);
	syn_store_relaxed(sealing, false);
	return r == SYN_E_DUP ? 0 : r == -EILSEQ ? SYN_E_LOST : r;
}

/* Whoever seals them never gives them back. */
static bool must_be_found(const struct user *u, uint64_t name)
{
	const struct crash_world *world = u->c->world;
	uint64_t first = syn_load_acquire(&world->witness);

	return first && u->g == geometries && name >= first &&
	       name < first + WITNESSED && !world->lossy;
}

static int user_find(struct user *u, uint64_t name)
{
	const uint64_t key[1][2] = { { name, ~name } };
	bool there = must_be_found(u, name);
	struct crash_world *world = u->c->world;
	uint64_t page;
	int r;

	r = syn_lookup(u->window, key, 1, &page, NULL);
	if (r < 0)
		return r;
	if (!r) {
		count(&world->missed);
		/* The witness may have come to its end meanwhile. */
		return there && must_be_found(u, name) ? NOT_THERE : 0;
	}
	r = page_check(u, &page, name);
	if (r == SYN_E_LOST && !there && world->lossy)
		count(&world->missed);
	else if (!r)
		count(&world->found);
	else
		return r;
	return syn_release(u->client, &page, 1);
}

static int user_find_some(struct user *u, uint32_t nr)
{
	uint64_t witness = syn_load_acquire(&u->c->world->witness);
	int r = 0;

	while (nr-- && !r)
		r = user_find(u, name_of(u, 1 + pick(u->c, NAMES)));
	if (!r && witness)
		r = user_find(u, witness + pick(u->c, WITNESSED));
	return r;
}

static int user_release(struct user *u)
{
	int r = syn_release(u->client, u->page, u->nr);

	u->nr = 0;
	return r;
}

/* ---- parts -------------------------------------------------------------- */

/* More pages than slots and host memory hold; some are sealed. */
static int part_pages(struct crash_client *c)
{
	struct user u;
	int r;

	r = user_open(&u, c, (uint32_t)pick(c, syn_array_size(geometries)),
		      4 + (uint32_t)pick(c, 5));
	if (!r)
		r = user_grow(&u, 8 + (uint32_t)pick(c, 24));
	if (!r)
		r = syn_advise(u.client, u.page, 2,
			       pick(c, 2) ? SYN_ADVISE_ANCHOR
					  : SYN_ADVISE_COLD);
	for (uint32_t i = 0; i < 12 && !r; i++)
		r = user_check(&u);
	for (uint32_t i = 0; i < 6 && !r; i++)
		r = user_seal(&u, i, 0);
	if (!r)
		r = user_find_some(&u, 4);
	/* Every other one leaves its pages to the daemon. */
	if (!r && pick(c, 2))
		r = user_release(&u);
	return user_close(&u, r);
}

static int loans_take(struct user *u)
{
	struct syn_loading *load;
	void *addr[4] = { NULL };
	int r;

	r = syn_load_begin(u->client, u->page, 4, TIMEOUT_NS, addr, &load);
	if (r)
		return r;
	sleep_ms((unsigned int)pick(u->c, 6));
	if (!pick(u->c, 12))
		_exit(0); /* and nobody knows what it has copied */
	r = syn_load_end(load);
	if (r)
		return r;
	for (uint32_t i = 0; i < 4 && !r; i++)
		if (!user_matches(u, addr[i], u->seed[i]))
			r = WRONG_BYTES;
	sleep_ms((unsigned int)pick(u->c, 4));
	syn_unpin(u->client, u->timeline, u->page, 4);
	return r;
}

/* Loads that stay under way, and pins that last. */
static int part_loans(struct crash_client *c)
{
	struct user u;
	int r;

	r = user_open(&u, c, (uint32_t)pick(c, syn_array_size(geometries)), 6);
	if (!r)
		r = user_grow(&u, 20);
	for (uint32_t i = 0; i < 4 && !r; i++) {
		r = loans_take(&u);
		for (uint32_t k = 0; k < 4 && !r; k++)
			r = user_check(&u);
	}
	return user_close(&u, r);
}

/*
 * Work that goes on after pages were given back, and after they were sealed; all
 * have slots, as none that is in use comes free meanwhile.
 */
static int part_timelines(struct crash_client *c)
{
	uint64_t value;
	struct user u;
	int r;

	r = user_open(&u, c, (uint32_t)pick(c, 2), 8);
	if (!r)
		r = user_grow(&u, 5);
	if (r)
		return user_close(&u, r);
	value = syn_timeline_issue(u.client, u.timeline);
	for (uint32_t i = 0; i < 3 && !r; i++)
		r = user_seal(&u, i, value);
	if (!r)
		r = syn_release(u.client, u.page + 3, 2);
	sleep_ms((unsigned int)pick(c, 4));
	if (!r && pick(c, 2))
		_exit(0); /* without having done it */
	syn_timeline_done(u.client, u.timeline, value);
	return user_close(&u, r);
}

static int user_persist(struct user *u, uint32_t nr)
{
	int r = 0;

	for (uint32_t i = 0; i < nr && !r; i++)
		r = user_seal(u, i, 0);
	if (!r && u->c->disk)
		r = syn_persist(u->client, u->page, nr, TIMEOUT_NS);
	return r == -EILSEQ ? SYN_E_LOST : r;
}

static int part_persist(struct crash_client *c)
{
	struct user u;
	int r;

	r = user_open(&u, c, (uint32_t)pick(c, syn_array_size(geometries)), 6);
	for (uint32_t i = 0; i < 8 && !r; i++)
		r = user_page(&u, name_of(&u, 100 + pick(c, 400)));
	if (!r)
		r = user_persist(&u, 6);
	/* Somebody sealed the same before, so that this one has no key. */
	if (r == -ENOKEY)
		r = 0;
	return user_close(&u, r);
}

/* Another domain, which ends with its last client. */
static int part_tenant(struct crash_client *c)
{
	struct user u;
	int r;

	r = user_join(&u, c,
		      &(struct beginning){ .socket = c->tenant,
					   .geometry = (uint32_t)pick(c, 2),
					   .model = 2,
					   .slots = 4 });
	if (!r)
		r = user_grow(&u, 12);
	for (uint32_t i = 0; i < 6 && !r; i++)
		r = user_check(&u);
	if (!r && pick(c, 2))
		r = user_release(&u);
	return user_close(&u, r);
}

/* A geometry that nobody had before. */
static int part_space(struct crash_client *c)
{
	struct user u;
	int r;

	if (__atomic_fetch_add(&c->world->spaces, 1, __ATOMIC_RELAXED) >=
	    CRASH_SPACES)
		return 0;
	r = user_join(&u, c,
		      &(struct beginning){ .socket = c->socket,
					   .model = engine_random(&c->seed) });
	return user_close(&u, r);
}

#define WRAP_SLOTS 6u

static struct syn_wrap_opts wrap_layout(const struct user *u, void *memory)
{
	struct syn_wrap_opts o = SYN_OPTS(struct syn_wrap_opts);

	o.base = memory;
	o.token = DIM * 2;
	o.head = TOKENS * o.token;
	o.component = HEADS * o.head;
	o.layer = 2 * o.component;
	o.block = o.layer;
	o.stride = u->space.page_bytes;
	o.slots = WRAP_SLOTS;
	o.passing = 4;
	return o;
}

static int wrap_play(struct user *u, char *memory)
{
	uint64_t keys[WRAP_SLOTS][2];
	uint64_t page[WRAP_SLOTS];
	uint32_t slots[WRAP_SLOTS];
	uint64_t first = name_of(u, 500 + pick(u->c, 300));
	int r;

	for (uint32_t i = 0; i < WRAP_SLOTS; i++) {
		slots[i] = i;
		keys[i][0] = first + i;
		keys[i][1] = ~keys[i][0];
		page_fill(memory + i * u->space.page_bytes, u->space.page_bytes,
			  first + i);
	}
	r = syn_store(u->window, slots, (const uint64_t(*)[2])keys, WRAP_SLOTS,
		      u->timeline, 0, TIMEOUT_NS, NULL);
	if (r)
		return r < 0 ? r : SYN_E_BACKPRESSURE;
	r = syn_lookup(u->window, (const uint64_t(*)[2])keys, WRAP_SLOTS, page,
		       NULL);
	if (r <= 0)
		return r;
	memset(memory, 0, WRAP_SLOTS * u->space.page_bytes);
	u->nr = (uint32_t)r;
	r = syn_fetch(u->window, page, slots, u->nr, TIMEOUT_NS, NULL);
	if (r)
		return r < 0 ? r : SYN_E_BACKPRESSURE;
	for (uint32_t i = 0; i < u->nr; i++)
		if (!page_matches(memory + i * u->space.page_bytes,
				  u->space.page_bytes, first + i))
			return WRONG_BYTES;
	return syn_release(u->client, page, u->nr);
}

/* Memory of the client's own. */
static int part_wrap(struct crash_client *c)
{
	struct syn_wrap_opts o;
	char *memory = NULL;
	struct user u;
	int r;

	r = user_open(&u, c, 0, 0);
	if (!r) {
		memory = malloc(WRAP_SLOTS * u.space.page_bytes);
		o = wrap_layout(&u, memory);
		r = memory ? syn_window_wrap(u.client, &u.space, &o, &u.window)
			   : -ENOMEM;
	}
	if (r == -EDQUOT)
		r = SYN_E_BACKPRESSURE;
	if (!r)
		r = wrap_play(&u, memory);
	r = user_close(&u, r);
	free(memory);
	return r;
}

/* Whoever speaks out of turn, or goes before it was heard. */
static int part_stranger(struct crash_client *c)
{
	struct syn_msg_bye bye = {
		.msg = { .type = SYN_MSG_BYE, .size = sizeof(bye) },
	};
	struct syn_msg_hello hello;
	int sock = -1;

	if (syn_conn_connect(c->socket, &sock))
		return 0;
	raw_hello(&hello);
	(void)syn_conn_send(sock, pick(c, 2) ? &hello.msg : &bye.msg, NULL, 0);
	if (pick(c, 2))
		(void)syn_conn_send(sock, &hello.msg, NULL, 0);
	sleep_ms((unsigned int)pick(c, 3));
	syn_close(sock);
	return 0;
}

#define DEAF_QUESTIONS 300

static void deaf_ask(struct raw_client *raw, uint64_t room)
{
	struct syn_msg_space space = {
		.msg = { .type = SYN_MSG_SPACE, .size = sizeof(space) },
	};
	const struct syn_sqe lease = { .op = SYN_OP_LEASE, .nr = 1 };

	/* Each is refused, until no answer goes into the socket any more. */
	for (int i = 0; i < DEAF_QUESTIONS; i++)
		if (syn_conn_send(raw->sock, &space.msg, NULL, 0))
			break;
	sleep_ms(5);
	for (uint64_t i = 0; i < room; i++)
		raw_submit(raw, &lease, NULL, 0);
	sleep_ms(20);
}

/* Whoever does not read: answers wait for room in its socket. */
static int part_deaf(struct crash_client *c)
{
	const struct timeval patience = { .tv_usec = 300000 };
	struct syn_msg_window window = {
		.msg = { .type = SYN_MSG_WINDOW, .size = sizeof(window) },
		.slots = 2,
	};
	struct raw_client raw;

	if (raw_attach(&raw, c->socket))
		return 0;
	(void)setsockopt(raw.sock, SOL_SOCKET, SO_RCVTIMEO, &patience,
			 sizeof(patience));
	/* The first geometry is the witness's. */
	(void)syn_conn_send(raw.sock, &window.msg, NULL, 0);
	if (raw_read(&raw, SYN_MSG_WINDOW_REPLY, NULL, 0))
		deaf_ask(&raw, 1 + pick(c, 8));
	raw_close(&raw);
	return 0;
}

int crash_client_round(struct crash_client *c)
{
	static int (*const part[])(struct crash_client *) = {
		part_pages,  part_pages,   part_pages,	  part_loans,
		part_loans,  part_persist, part_wrap,	  part_timelines,
		part_tenant, part_space,   part_stranger, part_deaf,
	};

	return part[pick(c, syn_array_size(part))](c);
}

int crash_client_ask(struct crash_client *c)
{
	struct user u;
	int r = user_open(&u, c, 0, 4);

	return user_close(&u, r);
}

/* ---- those that stay ---------------------------------------------------- */

int crash_client_witness(struct crash_client *c, uint64_t name)
{
	struct user u;
	int r;

	r = user_open(&u, c, 0, 6);
	for (uint32_t i = 0; i < 2 * WITNESSED && !r; i++)
		r = user_page(&u, WITNESSES + name * WITNESSED + i);
	for (uint32_t i = 0; i < WITNESSED && !r; i++)
		r = user_seal(&u, i, 0);
	if (!r)
		syn_store_release(&c->world->witness, u.seed[0]);
	while (!syn_load_relaxed(&c->world->stop) && !r) {
		r = user_check(&u);
		sleep_ms(5);
	}
	for (uint32_t i = 0; i < 2 * WITNESSED && !r; i++)
		r = page_check(&u, &u.page[i], u.seed[i]);
	syn_store_release(&c->world->witness, 0);
	return user_close(&u, r);
}

int crash_client_leave(struct crash_client *c, uint64_t name, uint32_t nr)
{
	struct user u;
	int r;

	r = user_open(&u, c, 0, 8);
	for (uint32_t i = 0; i < nr && !r; i++)
		r = user_page(&u, LEAVINGS + name * nr + i);
	if (!r)
		r = user_persist(&u, nr);
	/* There is room, unless the disk fails. */
	return user_close(&u, r > 0 ? -ENOSPC : r);
}

int crash_client_return(struct crash_client *c, uint64_t name, uint32_t nr)
{
	uint64_t before = c->world->found;
	struct user u;
	int r;

	r = user_open(&u, c, 0, 8);
	for (uint32_t i = 0; i < nr && !r; i++)
		r = user_find(&u, LEAVINGS + name * nr + i);
	if (!r && c->world->found != before + nr && !c->world->lossy)
		r = NOT_THERE;
	return user_close(&u, r);
}
