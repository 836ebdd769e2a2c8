/* SPDX-License-Identifier: Apache-2.0 */
/* synapse-bench: runs the benchmarks, prints figures beside their targets. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>

#include "core/base/base.h"
#include "tools/bench/bench.h"

#define EXIT_REFUSED 1
#define EXIT_USAGE   2
#define RUNS_DEFAULT 5u

static const struct {
	const char *name;
	const char *what;
	int (*run)(struct syn_bench *bench);
} benches[] = {
	{ "pin", "pin and unpin of resident pages", syn_bench_pin },
	{ "lease", "lease and release in batches of 64", syn_bench_lease },
	{ "ring", "round trip of a lease against a bare ring", syn_bench_ring },
	{ "move", "pages between tiers against memcpy", syn_bench_move },
	{ "encode", "pages encoded by the daemon's workers", syn_bench_encode },
	{ "attach", "time to get a session", syn_bench_attach },
	{ "idle", "context switches with 256 idle sessions", syn_bench_idle },
	{ "record", "bytes of records a page", syn_bench_record },
	{ "codec", "16-bit elements through codec h4", syn_bench_codec },
	{ "swap", "reads of swap slots against fio", syn_bench_swap },
	/* Before all that call CUDA: it forks, which CUDA does not survive. */
	{ "gpu-mem", "memory of a GPU, and shared with it", syn_bench_gpu_mem },
	{ "gpu-copy", "copies without Synapse", syn_bench_gpu_copy },
	{ "gpu-move", "pages that leave a GPU, by its daemon's device",
	  syn_bench_gpu_move },
	{ "gpu-fault", "pages of a client on a GPU, through the daemon",
	  syn_bench_gpu_fault },
	{ "gpu-load", "pages loaded into HBM against one copy",
	  syn_bench_gpu_load },
	{ "gpu-codec", "codec h4 from HBM to HBM", syn_bench_gpu_codec },
	{ "gpu-attend", "attention over pages as they are stored",
	  syn_bench_gpu_attend },
	{ "gpu-slow", "an engine's work while pages are loaded",
	  syn_bench_gpu_slow },
};

/**
 * struct options - the command line.
 * @json:	where figures go besides, or NULL.
 * @chosen:	bit i: benches[i] is to run.
 */
struct options {
	const char *json;
	unsigned int chosen;
};

static void help_print(void)
{
	(void)fputs("Usage: synapse-bench [OPTION]... [BENCHMARK]...\n"
		    "Measures synapsed beside its targets; all benchmarks by "
		    "default.\n\nBenchmarks:\n",
		    stdout);
	for (unsigned int i = 0; i < syn_array_size(benches); i++)
		(void)printf("  %-9s %s\n", benches[i].name, benches[i].what);
	(void)printf("\nOptions:\n"
		     "  -d, --synapsed PATH  the daemon; default: beside this "
		     "program\n"
		     "  -r, --runs N         1 to %u, default %u\n"
		     "  -j, --json FILE      write the figures there, too\n"
		     "  -h, --help           this text\n"
		     "  -V, --version        the version\n"
		     "\n"
		     "Exit status: 0 measured (targets met or not), 1 failed, "
		     "2 usage.\n",
		     SYN_RUNS_MAX, RUNS_DEFAULT);
}

static int usage(const char *what, const char *word)
{
	(void)fprintf(stderr,
		      "synapse-bench: %s '%s'\nTry 'synapse-bench --help'.\n",
		      what, word);
	return EXIT_USAGE;
}

/* Hundreds of sessions in one process: four descriptors each. */
static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* @ret has PATH_MAX bytes. */
static void synapsed_find(char *ret)
{
	ssize_t nr = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	char *slash;

	ret[nr > 0 ? nr : 0] = '\0';
	slash = strrchr(ret, '/');
	if (slash)
		*slash = '\0';
	if (strlen(ret) + sizeof("/synapsed") > PATH_MAX)
		ret[0] = '\0';
	strcat(ret, "/synapsed");
	if (access(ret, X_OK) == 0)
		return;
	/* A build tree keeps each program in a directory of its own. */
	slash = strrchr(ret, '/');
	if (strlen(ret) + sizeof("/../synapsed") < PATH_MAX)
		strcpy(slash, "/../synapsed/synapsed");
}

static int runs_parse(struct syn_bench *bench)
{
	char *end;
	unsigned long runs = strtoul(optarg, &end, 10);

	if (*end || runs < 1 || runs > SYN_RUNS_MAX)
		return usage("--runs is out of range:", optarg);
	bench->runs = (unsigned int)runs;
	return 0;
}

static int bench_choose(const char *name, struct options *opts)
{
	for (unsigned int i = 0; i < syn_array_size(benches); i++) {
		if (!strcmp(name, benches[i].name)) {
			opts->chosen |= 1u << i;
			return 0;
		}
	}
	return usage("no benchmark", name);
}

static const struct option long_options[] = {
	{ "synapsed", required_argument, NULL, 'd' },
	{ "runs", required_argument, NULL, 'r' },
	{ "json", required_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* 0 to go on, -1 when all is done, else the exit status. */
static int options_parse(int argc, char **argv, struct syn_bench *bench,
			 struct options *ret)
{
	int option, r = 0;

	while ((option = getopt_long(argc, argv, "d:r:j:hV", long_options,
				     NULL)) != -1) {
		switch (option) {
		case 'd':
			bench->synapsed = optarg;
			break;
		case 'r':
			r = runs_parse(bench);
			break;
		case 'j':
			ret->json = optarg;
			break;
		case 'h':
			help_print();
			return -1;
		case 'V':
			(void)puts("synapse-bench " SYN_VERSION);
			return -1;
		default:
			return EXIT_USAGE;
		}
	}
	for (; optind < argc && r == 0; optind++)
		r = bench_choose(argv[optind], ret);
	if (!ret->chosen)
		ret->chosen = ~0u;
	return r;
}

/* A benchmark that fails does not keep the others from running. */
static int benches_run(struct syn_bench *bench, unsigned int chosen)
{
	int status = EXIT_SUCCESS;

	for (unsigned int i = 0; i < syn_array_size(benches); i++) {
		if (!(chosen >> i & 1))
			continue;
		(void)fprintf(stderr, "%s ...\n", benches[i].name);
		if (benches[i].run(bench) < 0)
			status = EXIT_REFUSED;
	}
	return status;
}

int main(int argc, char **argv)
{
	static struct syn_bench bench = { .runs = RUNS_DEFAULT };
	struct options opts = { 0 };
	char synapsed[PATH_MAX];
	int status, r;

	synapsed_find(synapsed);
	bench.synapsed = synapsed;
	r = options_parse(argc, argv, &bench, &opts);
	if (r)
		return r < 0 ? EXIT_SUCCESS : r;
	syn_cpu_choose(&bench);
	descriptors_raise();
	syn_cpu_bind(bench.client_cpu);
	status = benches_run(&bench, opts.chosen);
	syn_figure_table(stdout, &bench.figures);
	if (opts.json) {
		r = syn_figure_json(opts.json, &bench.figures);
		if (r < 0) {
			(void)syn_bench_fail(opts.json, r);
			status = EXIT_REFUSED;
		}
	}
	return status;
}
