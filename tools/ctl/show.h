/* SPDX-License-Identifier: Apache-2.0 */
/* Records on a stream: a table for people, or one JSON object for programs. */
#ifndef SYN_TOOLS_CTL_SHOW_H
#define SYN_TOOLS_CTL_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "tools/ctl/record.h"

/* Aligned columns under headings; nothing when @nr is 0. */
void syn_show_table(FILE *out, const struct syn_record_type *type,
		    const void *records, size_t nr);
/* One member a line. */
void syn_show_list(FILE *out, const struct syn_record_type *type,
		   const void *record);

/* {"NAME":[{...},...]} in one line.  -ENOMEM, -EIO. */
int syn_show_json_table(FILE *out, const struct syn_record_type *type,
			const void *records, size_t nr);
/* {...} in one line. */
int syn_show_json_record(FILE *out, const struct syn_record_type *type,
			 const void *record);
/* One sentence about a key, and a few about a page. */
void syn_show_why(FILE *out, const struct syn_ctl_why *why);
void syn_show_why_page(FILE *out, const struct syn_ctl_page *page);
/* {"why":[{...},...]}, and "page":{...} if it is not NULL. */
int syn_show_json_why(FILE *out, const struct syn_ctl_page *page,
		      const struct syn_ctl_why *records, size_t nr);
/* {"fsck":[{...},...],"found":N,"moved":B}, by @val of the reply. */
int syn_show_json_fsck(FILE *out, const struct syn_ctl_fsck *records, size_t nr,
		       uint64_t val);
/* {"evicted":N}, {"domain":N} and {"draining":true,"nr_sessions":N}. */
int syn_show_json_evict(FILE *out, uint64_t nr_pages);
int syn_show_json_quota(FILE *out, uint32_t domain);
int syn_show_json_drain(FILE *out, bool on, uint64_t nr_sessions);
int syn_show_json_upgrade(FILE *out, const struct syn_ctl_status *status);

#endif
