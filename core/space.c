/* SPDX-License-Identifier: Apache-2.0 */
/* Spaces: KV geometries that make sense, each once. */
#include "core/space.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/base.h"
#include "core/base/failpoint.h"
#include "core/shape.h"

uint64_t syn_space_frame_bytes(const struct syn_mm *mm, uint32_t space,
			       uint32_t codec)
{
	return syn_align_up(mm->info[space].bytes[codec], SYN_FRAME_ALIGN);
}

uint32_t syn_space_plane(const struct syn_mm *mm, uint32_t space,
			 uint32_t codec)
{
	return mm->space[space].flags & SYN_SPACE_F_CODED &&
			       codec != SYN_CODEC_RAW16
		       ? SYN_PLANE_CODED
		       : SYN_PLANE_CANONICAL;
}

static uint32_t dtype_bytes(uint16_t dtype)
{
	static const uint32_t bytes[] = {
		[SYN_DTYPE_F16] = 2,
		[SYN_DTYPE_BF16] = 2,
		[SYN_DTYPE_F32] = 4,
		[SYN_DTYPE_U8] = 1,
	};

	return dtype < syn_array_size(bytes) ? bytes[dtype] : 0;
}

static const char *component_check(const struct syn_component *c)
{
	if (c->role < SYN_ROLE_K || c->role > SYN_ROLE_OPAQUE)
		return "a component has an unknown role";
	if (!dtype_bytes(c->dtype))
		return "a component has an unknown dtype";
	if (!c->heads || !c->dim)
		return "a component has no heads or no dim";
	if (c->codec != SYN_CODEC_RAW16 && c->codec != SYN_CODEC_H4)
		return "a component wants an unknown codec";
	if (c->pad0)
		return "a component's padding is not zero";
	return NULL;
}

static const char *msg_check(const struct syn_msg_space *msg)
{
	static const struct syn_component none;
	uint32_t kv_heads = 0;
	uint32_t i;

	if (msg->flags & ~SYN_SPACE_F_CODED)
		return "there are unknown flags";
	if (!msg->tokens || !msg->layers_per_page)
		return "a page has no tokens or no layers";
	if (!msg->nr_components || msg->nr_components > SYN_COMPONENTS_MAX)
		return "there must be 1 to 8 components";
	for (i = 0; i < msg->nr_components; i++) {
		const struct syn_component *c = &msg->component[i];
		const char *why = component_check(c);

		if (why)
			return why;
		if (c->role != SYN_ROLE_K && c->role != SYN_ROLE_V)
			continue;
		if (kv_heads && kv_heads != c->heads)
			return "K and V differ in heads";
		kv_heads = c->heads;
	}
	for (; i < SYN_COMPONENTS_MAX; i++)
		if (memcmp(&msg->component[i], &none, sizeof(none)) != 0)
			return "an unused component is not zero";
	return NULL;
}

/* Bytes of a page, or 0 when it is larger than a page may be. */
static uint64_t page_bytes(const struct syn_msg_space *msg)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < msg->nr_components; i++) {
		const struct syn_component *c = &msg->component[i];
		uint64_t bytes = dtype_bytes(c->dtype);

		if (syn_mul_overflow(bytes, c->heads, &bytes) ||
		    syn_mul_overflow(bytes, c->dim, &bytes) ||
		    syn_mul_overflow(bytes, msg->tokens, &bytes) ||
		    syn_mul_overflow(bytes, msg->layers_per_page, &bytes) ||
		    bytes > SYN_PAGE_BYTES_MAX)
			return 0;
		sum += bytes;
	}
	return sum > SYN_PAGE_BYTES_MAX ? 0 : sum;
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t c = a % b;

		a = b;
		b = c;
	}
	return a;
}

/*
 * Sums are of equal tiles.  Where all tiles of the canonical layout have one
 * size and there are at most SYN_TILES_MAX, those are it; else the smallest
 * multiple of their common part that divides the page into few enough.
 */
static uint32_t tile_count(const struct syn_msg_space *msg, uint64_t bytes)
{
	uint32_t block = syn_min(msg->tokens, SYN_TILE_TOKENS);
	uint32_t last = msg->tokens % block;
	uint64_t base = 0;
	uint64_t nr;
	uint32_t i;

	for (i = 0; i < msg->nr_components; i++) {
		const struct syn_component *c = &msg->component[i];
		uint64_t token = (uint64_t)dtype_bytes(c->dtype) * c->dim;

		base = gcd(base, token * block);
		if (last)
			base = gcd(base, token * last);
	}
	if (base % sizeof(uint32_t))
		base = bytes;
	nr = bytes / base;
	for (i = SYN_TILES_MAX; nr % i; i--)
		;
	return nr <= SYN_TILES_MAX ? (uint32_t)nr : i;
}

static uint64_t space_identity(const struct syn_rec_space *space)
{
	return XXH3_64bits(space, offsetof(struct syn_rec_space, page_bytes));
}

static bool space_coded(const struct syn_rec_space *space)
{
	uint32_t i;

	for (i = 0; i < space->nr_components; i++)
		if (space->component[i].codec == SYN_CODEC_H4)
			return true;
	return false;
}

static int space_layout(const struct syn_rec_space *space,
			struct syn_layout *ret)
{
	return syn_layout_init(ret, space->tokens, space->layers_per_page,
			       space->nr_components, space->component,
			       (uint8_t)space->raw_head,
			       (uint8_t)space->raw_tail);
}

static void space_inform(struct syn_mm *mm, uint32_t id)
{
	const struct syn_rec_space *space = &mm->space[id];
	struct syn_space_info *info = &mm->info[id];

	*info = (struct syn_space_info){ .coded = space_coded(space) };
	info->bytes[SYN_CODEC_RAW16] = space->page_bytes;
	if (!info->coded)
		return;
	(void)space_layout(space, &info->layout);
	info->bytes[SYN_CODEC_H4] = syn_layout_bytes(&info->layout);
}

static bool space_equal(const struct syn_rec_space *a,
			const struct syn_rec_space *b)
{
	return memcmp(a, b, offsetof(struct syn_rec_space, page_bytes)) == 0;
}

static void space_reply(const struct syn_mm *mm, uint32_t id,
			struct syn_msg_space_reply *ret)
{
	const struct syn_rec_space *space = &mm->space[id];

	ret->space = id;
	ret->nr_tiles = space->nr_tiles;
	ret->page_bytes = space->page_bytes;
	ret->identity = space->identity;
}

static int space_add(struct syn_mm *mm, const struct syn_rec_space *space,
		     uint32_t *ret, const char **ret_why)
{
	struct syn_rec_space rec = *space;
	uint32_t id;

	for (id = 0; id < mm->nr_spaces; id++) {
		if (!space_equal(&mm->space[id], space))
			continue;
		*ret = id;
		return 0;
	}
	if (id == SYN_SPACES_MAX) {
		*ret_why = "the daemon holds no more geometries";
		return -ENOSPC;
	}
	rec.tokens = 0;
	mm->space[id] = rec;
	syn_commit(&mm->space[id].tokens, space->tokens);
	space_inform(mm, id);
	mm->nr_spaces++;
	*ret = id;
	return 0;
}

/* What is asked for, complete, if it makes sense; else why not. */
static const char *space_make(const struct syn_msg_space *msg,
			      struct syn_rec_space *ret)
{
	const char *why = msg_check(msg);
	struct syn_layout layout;

	if (why)
		return why;
	*ret = (struct syn_rec_space){
		.model = { msg->model[0], msg->model[1] },
		.tokens = msg->tokens,
		.layers_per_page = msg->layers_per_page,
		.nr_components = msg->nr_components,
		.raw_head = msg->raw_head,
		.raw_tail = msg->raw_tail,
		.flags = msg->flags,
		.page_bytes = page_bytes(msg),
	};
	if (!ret->page_bytes)
		return "a page would be larger than 64 MiB";
	if (ret->page_bytes % sizeof(uint32_t))
		return "the bytes of a page are not a multiple of 4";
	memcpy(ret->component, msg->component, sizeof(ret->component));
	if (space_coded(ret) && space_layout(ret, &layout))
		return "its pages cannot be encoded: see synapse/codec.h";
	if (!space_coded(ret) && (msg->raw_head || msg->raw_tail))
		return "layers are kept raw, but no component may be encoded";
	if (!space_coded(ret) && msg->flags & SYN_SPACE_F_CODED)
		return "pages are read encoded, but no component may be";
	ret->nr_tiles = tile_count(msg, ret->page_bytes);
	ret->tile_bytes = ret->page_bytes / ret->nr_tiles;
	ret->identity = space_identity(ret);
	return NULL;
}

int syn_mm_space_define(struct syn_mm *mm, const struct syn_msg_space *msg,
			struct syn_msg_space_reply *ret, const char **ret_why)
{
	struct syn_rec_space space;
	uint32_t id;
	int r;

	*ret_why = space_make(msg, &space);
	if (*ret_why)
		return -EINVAL;
	r = space_add(mm, &space, &id, ret_why);
	if (!r)
		space_reply(mm, id, ret);
	return r;
}

void syn_space_adopt(struct syn_mm *mm)
{
	while (mm->nr_spaces < SYN_SPACES_MAX &&
	       mm->space[mm->nr_spaces].tokens)
		space_inform(mm, mm->nr_spaces++);
}

int syn_space_restore(struct syn_mm *mm, const struct syn_disk_head *head,
		      uint32_t *ret)
{
	struct syn_msg_space msg = {
		.model = { head->model[0], head->model[1] },
		.tokens = head->tokens,
		.layers_per_page = head->layers_per_page,
		.nr_components = head->nr_components,
		.raw_head = head->raw_head,
		.raw_tail = head->raw_tail,
		.flags = head->space_flags,
	};
	struct syn_rec_space space;
	const char *why;

	memcpy(msg.component, head->component, sizeof(msg.component));
	why = space_make(&msg, &space);
	return why ? -EINVAL : space_add(mm, &space, ret, &why);
}
