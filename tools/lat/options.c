/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsing: what is not understood is explained, and nothing is done. */
#include "tools/lat/options.h"

#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/base.h"

#define INTERVAL_DEFAULT_NS 1000000000u
#define INTERVAL_MAX_S	    86400.0

static const char help[] =
	"Usage: synapse-lat [OPTION]... [INTERVAL [COUNT]]\n"
	"How long faults of synapsed take, by client, cause and tier.\n"
	"\n"
	"Prints every INTERVAL seconds (default 1), COUNT times or until it is\n"
	"interrupted.\n"
	"\n"
	"Options:\n"
	"  -s, --socket PATH  default $SYNAPSE_SOCKET,\n"
	"                     else /run/synapse/synapse.sock\n"
	"  -p, --pid PID      of the daemon, instead of asking at its socket;\n"
	"                     clients have no names then\n"
	"  -b, --by KEYS      of cause,client,tier those that tell faults apart\n"
	"  -j, --json         one JSON object a line\n"
	"  -h, --help         this text\n"
	"  -V, --version      the version\n"
	"\n"
	"Exit status: 0 done, 1 no daemon or an error, 2 usage, 3 tracing is not\n"
	"possible here.\n";

static const char short_options[] = "s:p:b:jhV";
static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "pid", required_argument, NULL, 'p' },
	{ "by", required_argument, NULL, 'b' },
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

__attribute__((format(printf, 1, 2))) static int usage(const char *fmt, ...)
{
	va_list args;

	(void)fputs("synapse-lat: ", stderr);
	va_start(args, fmt);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fputs("\nTry 'synapse-lat --help'.\n", stderr);
	return SYN_LAT_OPTIONS_USAGE;
}

static int number_parse(const char *text, uint64_t max, uint64_t *ret)
{
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || !value || value > max)
		return -EINVAL;
	*ret = value;
	return 0;
}

static int interval_parse(const char *text, struct syn_lat_options *opts)
{
	double value;
	char *end;

	value = strtod(text, &end);
	if ((!isdigit((unsigned char)*text) && *text != '.') || *end ||
	    !(value >= 0.01) || value > INTERVAL_MAX_S)
		return usage("an interval is 0.01 to 86400 seconds, not '%s'",
			     text);
	opts->interval_ns = (uint64_t)(value * 1e9);
	return SYN_LAT_OPTIONS_RUN;
}

static int by_parse(const char *text, struct syn_lat_options *opts)
{
	static const char *const names[] = { "cause", "client", "tier" };

	opts->by = 0;
	while (*text) {
		size_t length = strcspn(text, ",");
		unsigned int i;

		for (i = 0; i < syn_array_size(names); i++)
			if (strlen(names[i]) == length &&
			    !strncmp(names[i], text, length))
				break;
		if (i == syn_array_size(names))
			break;
		opts->by |= 1u << i;
		text += length;
		text += *text == ',' && text[1];
	}
	if (*text || !opts->by)
		return usage("--by takes some of cause,client,tier, not '%s'",
			     optarg);
	return SYN_LAT_OPTIONS_RUN;
}

static int option_parse(int option, struct syn_lat_options *opts)
{
	uint64_t pid;

	switch (option) {
	case 's':
		opts->socket = optarg;
		return SYN_LAT_OPTIONS_RUN;
	case 'p':
		if (number_parse(optarg, INT_MAX, &pid) < 0)
			return usage("--pid takes a process, not '%s'", optarg);
		opts->pid = (pid_t)pid;
		return SYN_LAT_OPTIONS_RUN;
	case 'b':
		return by_parse(optarg, opts);
	case 'j':
		opts->json = true;
		return SYN_LAT_OPTIONS_RUN;
	case 'h':
		(void)fputs(help, stdout);
		return SYN_LAT_OPTIONS_DONE;
	case 'V':
		(void)puts("synapse-lat " SYN_VERSION);
		return SYN_LAT_OPTIONS_DONE;
	default: /* getopt has explained it */
		return SYN_LAT_OPTIONS_USAGE;
	}
}

static int words_parse(char **words, int nr, struct syn_lat_options *opts)
{
	int r = SYN_LAT_OPTIONS_RUN;

	if (nr > 2)
		return usage("'%s' is one word too many", words[2]);
	if (nr > 0)
		r = interval_parse(words[0], opts);
	if (r == SYN_LAT_OPTIONS_RUN && nr > 1 &&
	    number_parse(words[1], UINT64_MAX, &opts->count) < 0)
		return usage("COUNT is a number from 1, not '%s'", words[1]);
	return r;
}

int syn_lat_options_parse(int argc, char **argv, struct syn_lat_options *ret)
{
	struct syn_lat_options opts = {
		.by = SYN_LAT_BY_CAUSE | SYN_LAT_BY_CLIENT | SYN_LAT_BY_TIER,
		.interval_ns = INTERVAL_DEFAULT_NS,
		.count = UINT64_MAX,
	};
	int option;
	int r;

	for (;;) {
		option = getopt_long(argc, argv, short_options, long_options,
				     NULL);
		if (option == -1)
			break;
		r = option_parse(option, &opts);
		if (r != SYN_LAT_OPTIONS_RUN)
			return r;
	}
	if (opts.pid && opts.socket)
		return usage("--pid and --socket exclude each other");
	r = words_parse(argv + optind, argc - optind, &opts);
	if (r == SYN_LAT_OPTIONS_RUN)
		*ret = opts;
	return r;
}
