/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's own counters, asked over a control session: what happened to
 * pages that this engine sealed, and what this engine's session cost.
 */
#ifndef SYN_TOOLS_INFER_AUDIT_H
#define SYN_TOOLS_INFER_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include <synapse/abi.h>

struct syn_audit;

/**
 * struct syn_audit_page - a sealed page to look for.
 * @key:	in: what it was sealed under.
 * @found:	out: the daemon has it.
 * @flags:	out: SYN_PAGE_F_*, where it is.
 * @bits:	out: of its best copy; 16: nothing was lost.
 * @demotions:	out: times it moved down.
 * @loads:	out: times it was brought back.
 */
struct syn_audit_page {
	uint64_t key[2];
	bool found;
	uint16_t flags;
	uint16_t bits;
	uint32_t demotions;
	uint32_t loads;
};

/* Only the daemon's user and root may.  Errors are logged. */
int syn_audit_open(const char *socket, struct syn_audit **ret);
/* Takes NULL, returns NULL. */
struct syn_audit *syn_audit_close(struct syn_audit *audit);

/* Looks for @nr pages of @space. */
int syn_audit_pages(struct syn_audit *audit, uint32_t space,
		    struct syn_audit_page *pages, unsigned int nr);

/* -ENOENT: no such session. */
int syn_audit_client(struct syn_audit *audit, uint32_t session,
		     struct syn_ctl_client *ret);

#endif
