/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of each record type, and how a member becomes text. */
#include "tools/ctl/record.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/io/swapfile.h"

#define COLUMN(type, member, title, form)                                      \
	{                                                                      \
#member, title, offsetof(struct type, member),                 \
			sizeof(((struct type *)0)->member), SYN_FORM_##form    \
	}

#define STATUS(member, title, form) COLUMN(syn_ctl_status, member, title, form)
static const struct syn_column status_columns[] = {
	STATUS(epoch, "epoch", COUNT),
	STATUS(uptime_ns, "uptime", TIME),
	STATUS(keeper_pid, "keeper", COUNT),
	STATUS(worker_pid, "worker", COUNT),
	STATUS(nr_sessions, "sessions", COUNT),
	STATUS(draining, "draining", BOOL),
	STATUS(nr_pages, "pages", COUNT),
	STATUS(max_pages, "pages at most", COUNT),
	STATUS(nr_sealed, "sealed", COUNT),
	STATUS(nr_quarantined, "quarantined frames", COUNT),
	STATUS(leases, "leases", COUNT),
	STATUS(releases, "releases", COUNT),
	STATUS(commits, "commits", COUNT),
	STATUS(seals, "seals", COUNT),
	STATUS(dups, "seals of a taken key", COUNT),
	STATUS(lookup_hits, "lookup hits", COUNT),
	STATUS(lookup_misses, "lookup misses", COUNT),
	STATUS(faults, "faults", COUNT),
	STATUS(loads, "loads", COUNT),
	STATUS(demotions, "demotions", COUNT),
	STATUS(free_demotions, "demotions without a copy", COUNT),
	STATUS(evictions, "evictions", COUNT),
	STATUS(backpressure, "backpressure", COUNT),
	STATUS(sum_failures, "sum failures", COUNT),
	STATUS(attaches, "attaches", COUNT),
	STATUS(detaches, "detaches", COUNT),
	STATUS(reaped, "reaped", COUNT),
	STATUS(swap_retired, "retired slots", COUNT),
	STATUS(encoded, "encoded", COUNT),
	STATUS(raw_fallbacks, "kept raw, not finite", COUNT),
};

#define TIER(member, title, form) COLUMN(syn_ctl_tier, member, title, form)
static const struct syn_column tier_columns[] = {
	TIER(tier, "TIER", TIER),
	TIER(nr_extents, "EXTENTS", COUNT),
	TIER(budget_bytes, "BUDGET", BYTES),
	TIER(extent_bytes, "TAKEN", BYTES),
	TIER(used_bytes, "USED", BYTES),
	TIER(quarantine_bytes, "QUARANTINE", BYTES),
	TIER(in_bytes, "IN", BYTES),
	TIER(out_bytes, "OUT", BYTES),
};

#define CLIENT(member, title, form) COLUMN(syn_ctl_client, member, title, form)
static const struct syn_column client_columns[] = {
	CLIENT(session, "SESSION", COUNT),
	CLIENT(name, "NAME", TEXT),
	CLIENT(pid, "PID", COUNT),
	CLIENT(uid, "UID", COUNT),
	CLIENT(domain, "DOMAIN", COUNT),
	CLIENT(state, "STATE", CLIENT),
	CLIENT(attached_ns, "AGE", TIME),
	CLIENT(nr_leases, "LEASES", COUNT),
	CLIENT(slots, "SLOTS", COUNT),
	CLIENT(slots_charged, "CHARGED", COUNT),
	CLIENT(nr_pinned, "PINNED", COUNT),
	CLIENT(nr_loans, "LOANS", COUNT),
	CLIENT(host_bytes, "IN HOST", BYTES),
	CLIENT(faults, "FAULTS", COUNT),
	CLIENT(demotions, "DEMOTIONS", COUNT),
	CLIENT(lookup_hits, "HITS", COUNT),
};

#define PAGE(member, title, form) COLUMN(syn_ctl_page, member, title, form)
static const struct syn_column page_columns[] = {
	PAGE(index, "PAGE", COUNT),
	PAGE(generation, NULL, COUNT),
	PAGE(key, "KEY", KEY),
	PAGE(space, "SPACE", COUNT),
	PAGE(domain, "DOMAIN", COUNT),
	PAGE(session, "SESSION", ID),
	PAGE(state, "STATE", PAGE),
	PAGE(flags, "WHERE", FLAGS),
	PAGE(slot, "SLOT", ID),
	PAGE(codec, "CODEC", CODEC),
	PAGE(fidelity, "BITS", COUNT),
	PAGE(tokens, "TOKENS", COUNT),
	PAGE(nr_lessees, "LESSEES", COUNT),
	PAGE(demotions, "DOWN", COUNT),
	PAGE(loads, "UP", COUNT),
	PAGE(share, "SHARE", SHARE),
	PAGE(error, NULL, COUNT),
	PAGE(error_mean, NULL, COUNT),
	PAGE(advice, NULL, COUNT),
};

static const struct syn_column error_columns[] = {
	PAGE(index, "PAGE", COUNT),	   PAGE(key, "KEY", KEY),
	PAGE(space, "SPACE", COUNT),	   PAGE(domain, "DOMAIN", COUNT),
	PAGE(flags, "WHERE", FLAGS),	   PAGE(codec, "CODEC", CODEC),
	PAGE(fidelity, "BITS", COUNT),	   PAGE(error, "ERROR", PERCENT),
	PAGE(error_mean, "MEAN", PERCENT), PAGE(share, "SHARE", SHARE),
};

#define WHY(member, title, form) COLUMN(syn_ctl_why, member, title, form)
static const struct syn_column why_columns[] = {
	WHY(cause, "CAUSE", CAUSE),   WHY(field, "FIELD", FIELD),
	WHY(page, "PAGE", ID),	      WHY(space, "SPACE", ID),
	WHY(domain, "DOMAIN", ID),    WHY(tier, "TIER", TIER),
	WHY(fidelity, "BITS", COUNT), WHY(session, "SESSION", ID),
	WHY(pid, "PID", COUNT),	      WHY(name, "NAME", TEXT),
	WHY(age_ns, "AGE", TIME),
};

#define FSCK(member, title, form) COLUMN(syn_ctl_fsck, member, title, form)
static const struct syn_column fsck_columns[] = {
	FSCK(object, "OBJECT", OBJECT), FSCK(index, "INDEX", COUNT),
	FSCK(field, "WHAT", WHAT),	FSCK(part, "PART", COUNT),
	FSCK(expected, "EXPECTED", ID), FSCK(found, "FOUND", ID),
};

#define DOMAIN(member, title, form) COLUMN(syn_ctl_domain, member, title, form)
#define QUOTA(text, at, title, form)                                           \
	{                                                                      \
		text, title, offsetof(struct syn_ctl_domain, at),              \
			sizeof(uint64_t), SYN_FORM_##form                      \
	}
static const struct syn_column domain_columns[] = {
	DOMAIN(domain, "DOMAIN", COUNT),
	DOMAIN(name, "NAME", TEXT),
	DOMAIN(uid, "UID", COUNT),
	DOMAIN(nr_sessions, "SESSIONS", COUNT),
	DOMAIN(nr_pages, "PAGES", COUNT),
	DOMAIN(refused, "REFUSED", COUNT),
	QUOTA("hbm_used", tier[0].used, "HBM", BYTES),
	QUOTA("hbm_min", tier[0].min, "MIN", BYTES),
	QUOTA("hbm_high", tier[0].high, "HIGH", LIMIT),
	QUOTA("hbm_max", tier[0].max, "MAX", LIMIT),
	QUOTA("host_used", tier[1].used, "HOST", BYTES),
	QUOTA("host_min", tier[1].min, "MIN", BYTES),
	QUOTA("host_high", tier[1].high, "HIGH", LIMIT),
	QUOTA("host_max", tier[1].max, "MAX", LIMIT),
	QUOTA("nvme_used", tier[2].used, "NVME", BYTES),
	QUOTA("nvme_min", tier[2].min, "MIN", BYTES),
	QUOTA("nvme_high", tier[2].high, "HIGH", LIMIT),
	QUOTA("nvme_max", tier[2].max, "MAX", LIMIT),
};

#define SWAP(member, title, form)                                              \
	COLUMN(syn_swapfile_stats, member, title, form)
/* One element of an array; JSON has no name for it that C would take. */
#define SWAP_CODEC(array, codec, name, title, form)                            \
	{                                                                      \
		name, title,                                                   \
			offsetof(struct syn_swapfile_stats, array[codec]),     \
			sizeof(uint64_t), SYN_FORM_##form                      \
	}
static const struct syn_column swap_columns[] = {
	SWAP(bytes, "size", BYTES),
	SWAP(nr_segments, "segments", COUNT),
	SWAP(nr_cut, "segments in use", COUNT),
	SWAP(nr_slots, "slots", COUNT),
	SWAP(nr_valid, "slots that are good", COUNT),
	SWAP(valid_bytes, "bytes in them", BYTES),
	SWAP(nr_sealed, "of these kept over a restart", COUNT),
	SWAP_CODEC(nr_codec, SYN_CODEC_RAW16, "nr_raw16", "of these raw16",
		   COUNT),
	SWAP_CODEC(codec_bytes, SYN_CODEC_RAW16, "raw16_bytes",
		   "bytes in raw16", BYTES),
	SWAP_CODEC(nr_codec, SYN_CODEC_H4, "nr_h4", "of these h4", COUNT),
	SWAP_CODEC(codec_bytes, SYN_CODEC_H4, "h4_bytes", "bytes in h4", BYTES),
	SWAP(nr_stale, "stale heads", COUNT),
	SWAP(nr_corrupt, "corrupt", COUNT),
	SWAP(nr_unreadable, "unreadable", COUNT),
};

#define RECORD_TYPE(id, question, type, list)                                  \
	const struct syn_record_type syn_record_##id = {                       \
		#id, question, sizeof(struct type), syn_array_size(list), list \
	}
RECORD_TYPE(status, SYN_CTL_STATUS, syn_ctl_status, status_columns);
RECORD_TYPE(tiers, SYN_CTL_TIERS, syn_ctl_tier, tier_columns);
RECORD_TYPE(clients, SYN_CTL_CLIENTS, syn_ctl_client, client_columns);
RECORD_TYPE(pages, SYN_CTL_PAGES, syn_ctl_page, page_columns);
RECORD_TYPE(domains, SYN_CTL_DOMAINS, syn_ctl_domain, domain_columns);
RECORD_TYPE(swap, 0, syn_swapfile_stats, swap_columns);
RECORD_TYPE(why, SYN_CTL_WHY, syn_ctl_why, why_columns);
RECORD_TYPE(fsck, SYN_CTL_FSCK, syn_ctl_fsck, fsck_columns);
RECORD_TYPE(errors, SYN_CTL_PAGES, syn_ctl_page, error_columns);

uint64_t syn_column_value(const struct syn_column *column, const void *record)
{
	const unsigned char *at = (const unsigned char *)record;
	uint64_t u64;
	uint32_t u32;
	uint16_t u16;

	at += column->offset;
	switch (column->bytes) {
	case sizeof(u64):
		memcpy(&u64, at, sizeof(u64));
		return u64;
	case sizeof(u32):
		memcpy(&u32, at, sizeof(u32));
		return u32;
	default:
		memcpy(&u16, at, sizeof(u16));
		return u16;
	}
}

/* Indexed by value; the first is a value that never means anything. */
static const char *const tier_words[] = { NULL,	  "hbm",  "host",
					  "nvme", "peer", "remote" };
static const char *const client_words[] = { NULL, "live", "quarantine" };
static const char *const page_words[] = { "free", "open", "full", "sealed",
					  "lost" };
static const char *const codec_words[] = { NULL, "raw16", "h4" };
/* Indexed by bit. */
static const char *const flag_words[] = { "hbm",     "host",	   "nvme",
					  "keyed",   "moving",	   "filling",
					  "durable", "not-finite", "coded" };
static const char *const cause_words[] = {
	NULL,	   "present",  "never",	   "not-ready", "evicted",
	"ordered", "identity", "domain",   "fidelity",	"checksum",
	"device",  "writer",   "replaced",
};
static const char *const field_words[] = { NULL,     "model",	   "tokens",
					   "layers", "components", "floor",
					   "coded" };

static const char *const object_words[] = {
	NULL,	      "page",	 "lessee", "move",   "request",
	"quarantine", "session", "window", "bucket", "extent",
	"pool",	      "domain",	 "tier",   "sums",   "manager",
};
static const char *const what_words[] = {
	NULL,	  "state",   "flags",	   "reference", "back",
	"place",  "twice",   "charged",	   "list",	"link",
	"leases", "entry",   "generation", "key",	"request",
	"free",	  "used",    "going",	   "users",	"extents",
	"bytes",  "waiting", "number",	   "slots",	"mapped",
};

#define WORD(words, value)                                                     \
	((value) < syn_array_size(words) ? (words)[value] : NULL)

const char *syn_form_word(enum syn_form form, uint64_t value)
{
	switch (form) {
	case SYN_FORM_TIER:
		return WORD(tier_words, value);
	case SYN_FORM_CLIENT:
		return WORD(client_words, value);
	case SYN_FORM_PAGE:
		return WORD(page_words, value);
	case SYN_FORM_CODEC:
		return WORD(codec_words, value);
	case SYN_FORM_CAUSE:
		return WORD(cause_words, value);
	case SYN_FORM_FIELD:
		return WORD(field_words, value);
	case SYN_FORM_OBJECT:
		return WORD(object_words, value);
	case SYN_FORM_WHAT:
		return WORD(what_words, value);
	case SYN_FORM_FLAGS: /* @value is a single bit's number */
		return WORD(flag_words, value);
	default:
		return NULL;
	}
}

bool syn_form_empty(enum syn_form form, uint64_t value)
{
	switch (form) {
	case SYN_FORM_ID:
		return value == UINT32_MAX;
	case SYN_FORM_LIMIT:
		return value == SYN_QUOTA_NONE;
	case SYN_FORM_TIER:
	case SYN_FORM_FIELD:
	case SYN_FORM_CODEC:
		return !value;
	default:
		return false;
	}
}

void syn_form_bytes(uint64_t bytes, char *ret)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB",
					     "PiB" };
	double size = (double)bytes / 1024;
	unsigned int unit = 0;

	if (bytes < 1024) {
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%" PRIu64 " B", bytes);
		return;
	}
	while (size >= 1024 && unit + 1 < syn_array_size(units)) {
		size /= 1024;
		unit++;
	}
	(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%.1f %s", size, units[unit]);
}

void syn_form_time(uint64_t ns, char *ret)
{
	uint64_t s = ns / 1000000000u;

	if (s < 60)
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%.1fs",
			       (double)ns / 1e9);
	else if (s < 3600)
		(void)snprintf(ret, SYN_FORM_TEXT_MAX,
			       "%" PRIu64 "m %" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(ret, SYN_FORM_TEXT_MAX,
			       "%" PRIu64 "h %" PRIu64 "m", s / 3600,
			       s / 60 % 60);
	else
		(void)snprintf(ret, SYN_FORM_TEXT_MAX,
			       "%" PRIu64 "d %" PRIu64 "h", s / 86400,
			       s / 3600 % 24);
}

static void text_of_limit(const struct syn_column *column, const void *record,
			  char *ret)
{
	uint64_t bytes = syn_column_value(column, record);

	if (syn_form_empty(column->form, bytes))
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "none");
	else
		syn_form_bytes(bytes, ret);
}

/* What a terminal could take for a command becomes a question mark. */
static void text_of_name(const struct syn_column *column, const void *record,
			 char *ret)
{
	const char *at = (const char *)record + column->offset;
	size_t i;

	for (i = 0; i < column->bytes && at[i]; i++)
		ret[i] = at[i] >= ' ' && at[i] <= '~' ? at[i] : '?';
	ret[i] = '\0';
}

static void text_of_key(const struct syn_column *column, const void *record,
			char *ret)
{
	uint64_t key[2];

	memcpy(key, (const unsigned char *)record + column->offset,
	       sizeof(key));
	if (!key[0] && !key[1])
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "-");
	else
		(void)snprintf(ret, SYN_FORM_TEXT_MAX,
			       "%016" PRIx64 "%016" PRIx64, key[0], key[1]);
}

static void text_of_flags(uint64_t flags, char *ret)
{
	size_t used = 0;

	(void)snprintf(ret, SYN_FORM_TEXT_MAX, "-");
	for (unsigned int bit = 0; bit < syn_array_size(flag_words); bit++) {
		if (!(flags >> bit & 1))
			continue;
		used += (size_t)snprintf(ret + used, SYN_FORM_TEXT_MAX - used,
					 "%s%s", used ? "," : "",
					 flag_words[bit]);
	}
}

static void text_of_number(enum syn_form form, uint64_t value, char *ret)
{
	const char *word = syn_form_word(form, value);

	if (word)
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%s", word);
	else if (form == SYN_FORM_BOOL)
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%s",
			       value ? "yes" : "no");
	else if (form == SYN_FORM_SHARE)
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%.3f",
			       (double)value / 65536);
	else if (form == SYN_FORM_PERCENT)
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%.2f %%",
			       (double)value * 100 / 65536);
	else if (syn_form_empty(form, value))
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "-");
	else
		(void)snprintf(ret, SYN_FORM_TEXT_MAX, "%" PRIu64, value);
}

void syn_column_text(const struct syn_column *column, const void *record,
		     char *ret)
{
	switch (column->form) {
	case SYN_FORM_TEXT:
		text_of_name(column, record, ret);
		return;
	case SYN_FORM_KEY:
		text_of_key(column, record, ret);
		return;
	case SYN_FORM_LIMIT:
		text_of_limit(column, record, ret);
		return;
	case SYN_FORM_BYTES:
		syn_form_bytes(syn_column_value(column, record), ret);
		return;
	case SYN_FORM_TIME:
		syn_form_time(syn_column_value(column, record), ret);
		return;
	case SYN_FORM_FLAGS:
		text_of_flags(syn_column_value(column, record), ret);
		return;
	default:
		text_of_number(column->form, syn_column_value(column, record),
			       ret);
		return;
	}
}
