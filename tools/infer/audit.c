/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the daemon for its counters. */
#include "tools/infer/audit.h"

#include <time.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "tools/ctl/query.h"

/* The daemon's worker may die: another one answers within so many tries. */
#define AUDIT_TRIES    100
#define AUDIT_PAUSE_NS 50000000

/**
 * struct syn_audit - a control session, and another one if need be.
 * @socket:	where; the caller's.
 * @query:	the session, NULL: its worker has gone.
 */
struct syn_audit {
	const char *socket;
	struct syn_query *query;
};

static int audit_connect(struct syn_audit *audit)
{
	char reason[SYN_REASON_BYTES] = "";
	int r;

	r = syn_query_open(audit->socket, &audit->query, reason);
	if (r)
		syn_error("audit: %s%s%s", strerror(-r), *reason ? ": " : "",
			  reason);
	return r;
}

int syn_audit_open(const char *socket, struct syn_audit **ret)
{
	struct syn_audit *audit = syn_alloc(1, sizeof(*audit));
	int r;

	if (!audit)
		return -ENOMEM;
	audit->socket = socket;
	r = audit_connect(audit);
	if (r) {
		syn_audit_close(audit);
		return r;
	}
	*ret = audit;
	return 0;
}

struct syn_audit *syn_audit_close(struct syn_audit *audit)
{
	if (!audit)
		return NULL;
	syn_query_close(audit->query);
	free(audit);
	return NULL;
}

static bool worker_has_gone(int error)
{
	return error == -EPIPE || error == -ECONNRESET;
}

/* Records keep their places when another worker takes over. */
static int audit_ask(struct syn_audit *audit, uint32_t op, uint64_t cursor,
		     size_t record_bytes, struct syn_answer *ret)
{
	const struct timespec pause = { .tv_nsec = AUDIT_PAUSE_NS };
	int r;

	r = syn_query_ask(audit->query, op, cursor, 0, record_bytes, ret);
	for (int i = 0; i < AUDIT_TRIES && worker_has_gone(r); i++) {
		(void)nanosleep(&pause, NULL);
		audit->query = syn_query_close(audit->query);
		r = audit_connect(audit);
		if (!r)
			r = syn_query_ask(audit->query, op, cursor, 0,
					  record_bytes, ret);
	}
	if (r && audit->query)
		syn_error("audit: %s: %s", strerror(-r),
			  syn_query_reason(audit->query));
	return r;
}

static void page_match(const struct syn_ctl_page *record,
		       struct syn_audit_page *pages, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (record->key[0] != pages[i].key[0] ||
		    record->key[1] != pages[i].key[1])
			continue;
		pages[i].found = true;
		pages[i].flags = record->flags;
		pages[i].bits = record->fidelity;
		pages[i].demotions = record->demotions;
		pages[i].loads = record->loads;
	}
}

int syn_audit_pages(struct syn_audit *audit, uint32_t space,
		    struct syn_audit_page *pages, unsigned int nr)
{
	struct syn_answer answer = { 0 };
	int r;

	for (unsigned int i = 0; i < nr; i++)
		pages[i].found = false;
	do {
		const struct syn_ctl_page *records;

		r = audit_ask(audit, SYN_CTL_PAGES, answer.next,
			      sizeof(*records), &answer);
		if (r)
			return r;
		records = answer.records;
		for (uint32_t i = 0; i < answer.nr; i++)
			if (records[i].space == space &&
			    records[i].flags & SYN_PAGE_F_KEYED)
				page_match(&records[i], pages, nr);
	} while (answer.next);
	return 0;
}

int syn_audit_client(struct syn_audit *audit, uint32_t session,
		     struct syn_ctl_client *ret)
{
	struct syn_answer answer = { 0 };
	int r;

	do {
		const struct syn_ctl_client *records;

		r = audit_ask(audit, SYN_CTL_CLIENTS, answer.next,
			      sizeof(*records), &answer);
		if (r)
			return r;
		records = answer.records;
		for (uint32_t i = 0; i < answer.nr; i++) {
			if (records[i].session == session) {
				*ret = records[i];
				return 0;
			}
		}
	} while (answer.next);
	return -ENOENT;
}
