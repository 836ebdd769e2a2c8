/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsing: what is not understood is explained, and nothing is done. */
#include "tools/ctl/options.h"

#include <ctype.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

#include <synapse/abi.h>

#include "core/base/base.h"
#include "tools/synapsed/config.h"

#define WATCH_DEFAULT_NS 2000000000u
#define WATCH_MAX_S	 86400.0
#define WORDS_MAX	 6 /* quota's */

/* As it is written: "swap" takes a second word. */
static const char *const command_names[SYN_COMMAND_NR] = {
	"status",  "tiers",	"clients",    "pages", "domains",
	"evict",   "drain",	"quota",      "why",   "fsck",
	"upgrade", "swap init", "swap check",
};

static const char help[] =
	"Usage: synapsectl [OPTION]... COMMAND\n"
	"Inspects and steers synapsed.\n"
	"\n"
	"Commands:\n"
	"  status         counters of the daemon\n"
	"  tiers          memory by tier\n"
	"  clients        sessions\n"
	"  pages          page records\n"
	"  domains        who shares what, and what each may have\n"
	"  evict [N|all]  drop sealed pages that nobody leases; default all\n"
	"  drain [on|off] refuse new sessions; default on\n"
	"  quota DOMAIN TIER MIN HIGH MAX\n"
	"                 what a domain (number or name) may have of hbm, host\n"
	"                 or nvme: sizes as in 64M or 2G, or none\n"
	"  why KEY|page:N what became of a key (32 hex digits), or how a page is\n"
	"  fsck           see whether all records agree with each other\n"
	"  upgrade        put the program on disk in the worker's place; sessions stay\n"
	"  swap init FILE SIZE  make a swap file; needs no daemon\n"
	"  swap check FILE      read all of one that is not in use\n"
	"\n"
	"Options:\n"
	"  -s, --socket PATH      default $SYNAPSE_SOCKET,\n"
	"                         else /run/synapse/synapse.sock\n"
	"  -j, --json             one JSON object a line\n"
	"  -w, --watch [SECONDS]  repeat until interrupted; default 2\n"
	"  -h, --help             this text\n"
	"  -V, --version          the version\n"
	"\n"
	"Of pages:\n"
	"  -n, --limit N          show at most N\n"
	"  -k, --key HEX          only pages whose key begins so\n"
	"  -i, --session N        only pages of this session\n"
	"  -r, --resident         only pages in HBM\n"
	"  -e, --error            only pages that have lost precision, the worst\n"
	"                         first, and how much\n"
	"\n"
	"Of why:\n"
	"  -p, --space N          for lookups in this space\n"
	"  -d, --domain N         for lookups in this domain\n"
	"\n"
	"Of fsck:\n"
	"  -a, --at-once          in one step, which makes everybody wait, so that\n"
	"                         what is counted adds up\n"
	"\n"
	"Of swap init:\n"
	"  -f, --force            overwrite a file that exists\n"
	"\n"
	"Exit status: 0 done, 1 refused, not reachable or something found, 2 usage.\n";

static const char short_options[] = "+s:jw::n:k:i:rep:d:afhV";
static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "json", no_argument, NULL, 'j' },
	{ "watch", optional_argument, NULL, 'w' },
	{ "limit", required_argument, NULL, 'n' },
	{ "key", required_argument, NULL, 'k' },
	{ "session", required_argument, NULL, 'i' },
	{ "resident", no_argument, NULL, 'r' },
	{ "at-once", no_argument, NULL, 'a' },
	{ "force", no_argument, NULL, 'f' },
	{ "error", no_argument, NULL, 'e' },
	{ "space", required_argument, NULL, 'p' },
	{ "domain", required_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

__attribute__((format(printf, 1, 2))) static int usage(const char *fmt, ...)
{
	va_list args;

	(void)fputs("synapsectl: ", stderr);
	va_start(args, fmt);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fputs("\nTry 'synapsectl --help'.\n", stderr);
	return SYN_OPTIONS_USAGE;
}

static int number_parse(const char *text, uint64_t max, uint64_t *ret)
{
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || value > max)
		return -EINVAL;
	*ret = value;
	return 0;
}

/* As in the configuration; @none for "none". */
static int size_parse(const char *text, uint64_t none, uint64_t *ret)
{
	if (strcmp(text, "none") != 0)
		return syn_config_size(text, ret);
	*ret = none;
	return 0;
}

static int seconds_parse(const char *text, uint64_t *ret_ns)
{
	double value;
	char *end;

	if (!isdigit((unsigned char)*text) && *text != '.')
		return -EINVAL;
	value = strtod(text, &end);
	if (*end || !(value >= 0.01) || value > WATCH_MAX_S)
		return -EINVAL;
	*ret_ns = (uint64_t)(value * 1e9);
	return 0;
}

/* The seconds may follow as a word of their own: no command is a number. */
static int watch_parse(struct syn_options *opts, int argc, char **argv)
{
	opts->watch = true;
	opts->interval_ns = WATCH_DEFAULT_NS;
	if (optarg) {
		if (seconds_parse(optarg, &opts->interval_ns) == 0)
			return SYN_OPTIONS_RUN;
		return usage("--watch takes 0.01 to 86400 seconds, not '%s'",
			     optarg);
	}
	if (optind < argc &&
	    seconds_parse(argv[optind], &opts->interval_ns) == 0)
		optind++;
	return SYN_OPTIONS_RUN;
}

static int key_parse(struct syn_options *opts)
{
	size_t digits = strlen(optarg);

	if (!digits || digits > SYN_KEY_DIGITS)
		return usage("--key takes 1 to %d hex digits", SYN_KEY_DIGITS);
	for (size_t i = 0; i < digits; i++) {
		if (!isxdigit((unsigned char)optarg[i]))
			return usage("--key: '%s' is not hexadecimal", optarg);
		opts->key[i] = (char)tolower((unsigned char)optarg[i]);
	}
	opts->key[digits] = '\0';
	return SYN_OPTIONS_RUN;
}

static int session_parse(struct syn_options *opts)
{
	uint64_t session;

	if (number_parse(optarg, UINT32_MAX, &session) < 0)
		return usage("--session takes a session's number, not '%s'",
			     optarg);
	opts->by_session = true;
	opts->session = (uint32_t)session;
	return SYN_OPTIONS_RUN;
}

static int at_parse(const char *option, uint32_t *ret)
{
	uint64_t value;

	if (number_parse(optarg, SYN_WHY_ANY - 1, &value) < 0)
		return usage("%s takes a number, not '%s'", option, optarg);
	*ret = (uint32_t)value;
	return SYN_OPTIONS_RUN;
}

static int option_parse(int option, struct syn_options *opts, int argc,
			char **argv)
{
	switch (option) {
	case 's':
		opts->socket = optarg;
		return SYN_OPTIONS_RUN;
	case 'j':
		opts->json = true;
		return SYN_OPTIONS_RUN;
	case 'w':
		return watch_parse(opts, argc, argv);
	case 'n':
		if (number_parse(optarg, UINT64_MAX, &opts->limit) < 0)
			return usage("--limit takes a number, not '%s'",
				     optarg);
		return SYN_OPTIONS_RUN;
	case 'k':
		return key_parse(opts);
	case 'i':
		return session_parse(opts);
	case 'r':
		opts->resident = true;
		return SYN_OPTIONS_RUN;
	case 'a':
		opts->at_once = true;
		return SYN_OPTIONS_RUN;
	case 'f':
		opts->force = true;
		return SYN_OPTIONS_RUN;
	case 'e':
		opts->errors = true;
		return SYN_OPTIONS_RUN;
	case 'p':
		return at_parse("--space", &opts->at_space);
	case 'd':
		return at_parse("--domain", &opts->at_domain);
	case 'h':
		(void)fputs(help, stdout);
		return SYN_OPTIONS_DONE;
	case 'V':
		(void)puts("synapsectl " SYN_VERSION);
		return SYN_OPTIONS_DONE;
	default: /* getopt has explained it */
		return SYN_OPTIONS_USAGE;
	}
}

/* Takes one or two of @words and says how many in *ret_nr. */
static int command_parse(const char *const *words, struct syn_options *opts,
			 unsigned int *ret_nr)
{
	char name[32];

	*ret_nr = strcmp(words[0], "swap") ? 1 : 2;
	if (*ret_nr == 2 && !words[1])
		return usage("swap takes 'init' or 'check'");
	(void)snprintf(name, sizeof(name), *ret_nr == 2 ? "%s %s" : "%s",
		       words[0], words[1]);
	for (int i = 0; i < SYN_COMMAND_NR; i++) {
		if (!strcmp(name, command_names[i])) {
			opts->command = (enum syn_ctl_command)i;
			return SYN_OPTIONS_RUN;
		}
	}
	return usage("no command '%s'", name);
}

/* NULL ends @words. */
static int swap_parse(const char *const *words, struct syn_options *opts)
{
	unsigned int most = opts->command == SYN_COMMAND_SWAP_CHECK ? 1 : 2;

	if (words[0] && words[1] && words[most])
		return usage("'%s' is one word too many", words[most]);
	if (!words[0] || !words[most - 1])
		return usage("%s takes a file%s", command_names[opts->command],
			     most == 2 ? " and a size" : "");
	opts->file = words[0];
	if (most == 2 && syn_config_size(words[1], &opts->bytes) < 0)
		return usage("swap init takes a size as in 64M or 2G, not '%s'",
			     words[1]);
	return SYN_OPTIONS_RUN;
}

static int argument_parse(const char *text, struct syn_options *opts)
{
	if (opts->command == SYN_COMMAND_EVICT) {
		if (!strcmp(text, "all"))
			opts->count = UINT64_MAX;
		else if (number_parse(text, UINT64_MAX, &opts->count) < 0)
			return usage("evict takes a number or 'all', not '%s'",
				     text);
		return SYN_OPTIONS_RUN;
	}
	if (opts->command == SYN_COMMAND_DRAIN) {
		if (strcmp(text, "on") && strcmp(text, "off"))
			return usage("drain takes 'on' or 'off', not '%s'",
				     text);
		opts->count = !strcmp(text, "on");
		return SYN_OPTIONS_RUN;
	}
	return usage("%s takes no argument", command_names[opts->command]);
}

static int tier_parse(const char *text, uint32_t *ret)
{
	static const char *const names[SYN_QUOTA_TIERS] = { "hbm", "host",
							    "nvme" };

	for (uint32_t i = 0; i < SYN_QUOTA_TIERS; i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*ret = SYN_TIER_HBM + i;
		return 0;
	}
	return -EINVAL;
}

static int quota_parse(const char *const *words, struct syn_options *opts)
{
	uint64_t *const to[] = { &opts->min, &opts->high, &opts->max };

	for (size_t i = 0; i < WORDS_MAX; i++)
		if (!words[i])
			return usage("quota takes DOMAIN TIER MIN HIGH MAX");
	opts->domain = words[1];
	if (tier_parse(words[2], &opts->tier) < 0)
		return usage("quota takes hbm, host or nvme, not '%s'",
			     words[2]);
	for (size_t i = 0; i < syn_array_size(to); i++)
		if (size_parse(words[3 + i], i ? SYN_QUOTA_NONE : 0, to[i]) < 0)
			return usage("quota takes sizes or 'none', not '%s'",
				     words[3 + i]);
	return SYN_OPTIONS_RUN;
}

static int why_parse(const char *text, struct syn_options *opts)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	char half[SYN_KEY_DIGITS / 2 + 1];
	uint64_t page;

	if (!strncmp(text, "page:", 5)) {
		if (number_parse(text + 5, UINT32_MAX - 1, &page) < 0)
			return usage("page: takes a number, not '%s'",
				     text + 5);
		opts->why_page = (uint32_t)page;
		return SYN_OPTIONS_RUN;
	}
	if (strlen(text) != SYN_KEY_DIGITS ||
	    strspn(text, digits) != SYN_KEY_DIGITS)
		return usage("why takes %d hex digits or page:N, not '%s'",
			     SYN_KEY_DIGITS, text);
	(void)snprintf(half, sizeof(half), "%.16s", text);
	opts->why_key[0] = strtoull(half, NULL, 16);
	opts->why_key[1] = strtoull(text + SYN_KEY_DIGITS / 2, NULL, 16);
	if (!opts->why_key[0] && !opts->why_key[1])
		return usage("no page has the key 0");
	return SYN_OPTIONS_RUN;
}

static int words_parse(const char *const *words, struct syn_options *opts)
{
	if (opts->command == SYN_COMMAND_QUOTA)
		return quota_parse(words, opts);
	if (words[2])
		return usage("'%s' is one word too many", words[2]);
	if (opts->command == SYN_COMMAND_WHY)
		return words[1] ? why_parse(words[1], opts)
				: usage("why takes a key or page:N");
	return words[1] ? argument_parse(words[1], opts) : SYN_OPTIONS_RUN;
}

static int options_check(const struct syn_options *opts)
{
	const char *name = command_names[opts->command];
	bool filters = opts->limit != UINT64_MAX || opts->key[0] ||
		       opts->by_session || opts->resident || opts->errors;
	bool at =
		opts->at_space != SYN_WHY_ANY || opts->at_domain != SYN_WHY_ANY;
	bool by_page = !opts->why_key[0] && !opts->why_key[1];

	if (filters && opts->command != SYN_COMMAND_PAGES)
		return usage("%s takes no --limit, --key, --session, "
			     "--resident or --error",
			     name);
	if (opts->at_once && opts->command != SYN_COMMAND_FSCK)
		return usage("%s takes no --at-once", name);
	if (opts->force && opts->command != SYN_COMMAND_SWAP_INIT)
		return usage("%s takes no --force", name);
	if (at && (opts->command != SYN_COMMAND_WHY || by_page))
		return usage("%s takes no --space or --domain",
			     opts->command == SYN_COMMAND_WHY ? "a page"
							      : name);
	if (opts->watch && opts->command >= SYN_COMMAND_EVICT)
		return usage("%s cannot be watched", name);
	return SYN_OPTIONS_RUN;
}

int syn_options_parse(int argc, char **argv, struct syn_options *ret)
{
	struct syn_options opts = { .limit = UINT64_MAX,
				    .at_space = SYN_WHY_ANY,
				    .at_domain = SYN_WHY_ANY };
	const char *words[WORDS_MAX + 1] = { NULL };
	unsigned int nr = 0;
	unsigned int taken;
	int r;

	/* Words stop getopt ("+"), so that --watch can look at the next. */
	while (optind < argc) {
		int option = getopt_long(argc, argv, short_options,
					 long_options, NULL);

		if (option != -1) {
			r = option_parse(option, &opts, argc, argv);
			if (r != SYN_OPTIONS_RUN)
				return r;
		} else if (optind < argc) {
			if (nr == WORDS_MAX)
				return usage("'%s' is one word too many",
					     argv[optind]);
			words[nr++] = argv[optind++];
		}
	}
	if (!nr)
		return usage("a command is missing");
	r = command_parse(words, &opts, &taken);
	opts.count = opts.command == SYN_COMMAND_EVICT ? UINT64_MAX : 1;
	if (r == SYN_OPTIONS_RUN && taken == 2)
		r = swap_parse(words + 2, &opts);
	else if (r == SYN_OPTIONS_RUN)
		r = words_parse(words, &opts);
	if (r == SYN_OPTIONS_RUN)
		r = options_check(&opts);
	if (r == SYN_OPTIONS_RUN)
		*ret = opts;
	return r;
}
