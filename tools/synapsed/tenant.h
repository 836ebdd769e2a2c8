/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sections [quota] and [tenant NAME]: more sockets, and what each domain
 * that comes through one may have.  A key that a tenant does not have is that
 * of [quota], which is also what counts for the main socket.
 */
#ifndef SYN_TOOLS_SYNAPSED_TENANT_H
#define SYN_TOOLS_SYNAPSED_TENANT_H

#include <stdbool.h>
#include <stdio.h>

#include "tools/synapsed/config.h"

#define SYN_TENANT_OPTIONS 11u
#define SYN_TENANT_EXPECTED                                                    \
	"15 at most, of 1 to 31 letters, digits, \"-\" and \"_\""

/* @section: where a tenant began; @option: where one was set last, or 0. */
struct syn_tenant_lines {
	int section[SYN_TENANTS_MAX];
	int option[SYN_TENANTS_MAX][SYN_TENANT_OPTIONS];
};

/* All keys of [tenant NAME]; those of [quota] begin with the third. */
const struct syn_option *syn_tenant_options(void);

void syn_tenant_default(struct syn_config *config);

/* [quota], or begins like a tenant's. */
bool syn_tenant_section(const char *section);
/* Made if it is new, on @line; NULL: no such name, or one too many. */
struct syn_tenant *syn_tenant_find(struct syn_config *config,
				   const char *section, int line,
				   struct syn_tenant_lines *lines);
/* NULL: no such key in @section. */
const struct syn_option *syn_tenant_option(const char *section,
					   const char *key);
/* Notes that it is set on @line; false: it was before. */
bool syn_tenant_see(const struct syn_config *config, struct syn_tenant *tenant,
		    const struct syn_option *option, int line,
		    struct syn_tenant_lines *lines);

/*
 * The file has been read: fills in what is not given, and checks what it alone
 * can tell.
 */
int syn_tenant_complete(struct syn_config *config, const char *path,
			const struct syn_tenant_lines *lines);
/* Together with budgets and the main socket, which becomes the first tenant. */
int syn_tenant_check(struct syn_config *config);

void syn_tenant_print(const struct syn_config *config, FILE *file);

#endif
