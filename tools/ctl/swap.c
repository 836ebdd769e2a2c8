/* SPDX-License-Identifier: Apache-2.0 */
/* Making a swap file, and saying what is in one. */
#include "tools/ctl/swap.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/io/swapfile.h"
#include "tools/ctl/options.h"
#include "tools/ctl/show.h"

static int complain(int error, const char *why)
{
	(void)fprintf(stderr, "synapsectl: %s\n", why);
	return error;
}

int syn_swap_run_init(const struct syn_options *opts)
{
	char why[SYN_SWAPFILE_WHY_BYTES];
	int r;

	/* A limit on file sizes is an answer, too. */
	(void)signal(SIGXFSZ, SIG_IGN);
	r = syn_swapfile_init(opts->file, opts->bytes, opts->force, why);
	if (r)
		return complain(r, why);
	if (!opts->json)
		(void)printf("%s: ready\n", opts->file);
	return 0;
}

int syn_swap_run_check(const struct syn_options *opts)
{
	const struct syn_record_type *type = &syn_record_swap;
	struct syn_swapfile_stats stats;
	char why[SYN_SWAPFILE_WHY_BYTES];
	uint64_t bad;
	int r;

	r = syn_swapfile_check(opts->file, &stats, why);
	if (r)
		return complain(r, why);
	bad = stats.nr_corrupt + stats.nr_unreadable;
	if (opts->json) {
		r = syn_show_json_record(stdout, type, &stats);
	} else {
		(void)printf("%s: %" PRIu64 " good slots, %" PRIu64 " bad\n",
			     opts->file, stats.nr_valid, bad);
		syn_show_list(stdout, type, &stats);
		r = fflush(stdout) || ferror(stdout) ? -EIO : 0;
	}
	if (r)
		return complain(r, strerror(-r));
	return bad ? -EUCLEAN : 0;
}
