/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of synapsectl. */
#ifndef SYN_TOOLS_CTL_OPTIONS_H
#define SYN_TOOLS_CTL_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum syn_ctl_command {
	SYN_COMMAND_STATUS,
	SYN_COMMAND_TIERS,
	SYN_COMMAND_CLIENTS,
	SYN_COMMAND_PAGES,
	SYN_COMMAND_DOMAINS,
	SYN_COMMAND_EVICT,
	SYN_COMMAND_DRAIN,
	SYN_COMMAND_QUOTA,
	SYN_COMMAND_WHY,
	SYN_COMMAND_FSCK,
	SYN_COMMAND_UPGRADE,
	SYN_COMMAND_SWAP_INIT,
	SYN_COMMAND_SWAP_CHECK,
	SYN_COMMAND_NR,
};

#define SYN_KEY_DIGITS 32

/**
 * struct syn_options - what was asked for.
 * @socket:	path, or NULL for the default.
 * @json:	for programs.
 * @watch:	again and again, ...
 * @interval_ns: ... after this long.
 * @command:	what to do.
 * @count:	evict: pages at most.  drain: 1 on, 0 off.
 * @domain:	quota: number or name of a domain.
 * @tier:	quota: SYN_TIER_*.
 * @min:	quota: bytes.
 * @high:	quota: bytes, or SYN_QUOTA_NONE.
 * @max:	quota: bytes, or SYN_QUOTA_NONE.
 * @limit:	pages: show at most.
 * @key:	pages: only those whose key begins so; "" for all.
 * @by_session:	pages: only those of @session.
 * @session:	see there.
 * @resident:	pages: only those in HBM.
 * @at_once:	fsck: in one step.
 * @file:	swap: the file.
 * @bytes:	swap init: its size.
 * @force:	swap init: overwrite what is there.
 * @errors:	pages: only those that have lost something, the worst first.
 * @why_key:	why: the key; 0 when it is asked for @why_page.
 * @why_page:	why: a page's index.
 * @at_space:	why: for whom: a space, or SYN_WHY_ANY.
 * @at_domain:	why: for whom: a domain, or SYN_WHY_ANY.
 */
struct syn_options {
	const char *socket;
	bool json;
	bool watch;
	uint64_t interval_ns;
	enum syn_ctl_command command;
	uint64_t count;
	const char *domain;
	uint32_t tier;
	uint64_t min;
	uint64_t high;
	uint64_t max;
	uint64_t limit;
	char key[SYN_KEY_DIGITS + 1];
	bool by_session;
	uint32_t session;
	bool resident;
	bool at_once;
	const char *file;
	uint64_t bytes;
	bool force;
	bool errors;
	uint64_t why_key[2];
	uint32_t why_page;
	uint32_t at_space;
	uint32_t at_domain;
};

#define SYN_OPTIONS_RUN	  0
#define SYN_OPTIONS_DONE  1 /* help or version was printed */
#define SYN_OPTIONS_USAGE 2 /* a mistake was explained on stderr */

/* One of the above. */
int syn_options_parse(int argc, char **argv, struct syn_options *ret);

#endif
