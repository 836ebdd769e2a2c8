/* SPDX-License-Identifier: Apache-2.0 */
/* synapse-infer: serves prompts with the demo model over Synapse pages. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <synapse/abi.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "tools/infer/audit.h"
#include "tools/infer/engine.h"
#include "tools/infer/forward.h"
#include "tools/infer/kv.h"
#include "tools/infer/model.h"
#include "tools/infer/output.h"
#include "tools/infer/prompts.h"

#define EXIT_USAGE	   2
#define SEQUENCES_MAX	   1024
#define MAX_TOKENS_MAX	   (1 << 20)
#define SLOTS_MAX	   (1 << 24)
#define HBM_DEFAULT	   (64ull << 20)
#define SEQUENCES_DEFAULT  4
#define MAX_TOKENS_DEFAULT 8

static const char usage[] =
	"Usage: synapse-infer --model FILE --prompts FILE [OPTION]...\n"
	"Answer prompts with a small transformer whose keys and values live in\n"
	"pages of synapsed.\n"
	"\n"
	"  --model FILE       weights (safetensors)\n"
	"  --prompts FILE     prompts, one JSON object a line\n"
	"  --output FILE      results, one JSON object a line; default: stdout\n"
	"  --stats FILE       figures of the run, one JSON object\n"
	"  --socket PATH      the daemon's socket\n"
	"  --name NAME        shown by synapsectl\n"
	"  --hbm SIZE         HBM share in bytes, K, M or G; default: 64M\n"
	"  --slots N          the same in pages\n"
	"  --sequences N      sequences at once; default: 4\n"
	"  --max-tokens N     bytes of an answer; default: 8\n"
	"  --codec CODEC      what pages become below HBM if the daemon's\n"
	"                     ladder says so: raw16 or h4; default: raw16\n"
	"  --persist          wait until a prompt's pages are on disk\n"
	"  --report           tell the daemon how attention was spread\n"
	"  --record FILE      record that, and what became of pages\n"
	"  --audit            ask the daemon about needle pages (its user only)\n"
	"  --help             this text\n"
	"  --version          the version\n";

/**
 * struct options - the command line, with the names and units of the usage.
 */
struct options {
	const char *model;
	const char *prompts;
	const char *output;
	const char *stats;
	const char *socket;
	const char *name;
	uint64_t hbm_bytes;
	uint64_t slots;
	uint64_t sequences;
	uint64_t max_tokens;
	uint32_t codec;
	bool persist;
	bool report;
	const char *record;
	bool audit;
};

enum {
	OPT_MODEL = 256,
	OPT_PROMPTS,
	OPT_OUTPUT,
	OPT_STATS,
	OPT_SOCKET,
	OPT_NAME,
	OPT_HBM,
	OPT_SLOTS,
	OPT_SEQUENCES,
	OPT_MAX_TOKENS,
	OPT_CODEC,
	OPT_PERSIST,
	OPT_REPORT,
	OPT_RECORD,
	OPT_AUDIT,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "model", required_argument, NULL, OPT_MODEL },
	{ "prompts", required_argument, NULL, OPT_PROMPTS },
	{ "output", required_argument, NULL, OPT_OUTPUT },
	{ "stats", required_argument, NULL, OPT_STATS },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "hbm", required_argument, NULL, OPT_HBM },
	{ "slots", required_argument, NULL, OPT_SLOTS },
	{ "sequences", required_argument, NULL, OPT_SEQUENCES },
	{ "max-tokens", required_argument, NULL, OPT_MAX_TOKENS },
	{ "codec", required_argument, NULL, OPT_CODEC },
	{ "persist", no_argument, NULL, OPT_PERSIST },
	{ "report", no_argument, NULL, OPT_REPORT },
	{ "record", required_argument, NULL, OPT_RECORD },
	{ "audit", no_argument, NULL, OPT_AUDIT },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

/* Digits, then one of K, M, G if @units; 1 to @max. */
static int parse_number(const char *what, const char *text, bool units,
			uint64_t max, uint64_t *ret)
{
	static const char letters[] = "KMG";
	const char *letter = NULL;
	uint64_t x;
	char *end;

	errno = 0;
	x = strtoull(text, &end, 10);
	if (units && *end)
		letter = strchr(letters, *end);
	if (letter &&
	    !syn_mul_overflow(x, 1ull << (10 * (letter - letters + 1)), &x))
		end++;
	if (errno || *text < '0' || *text > '9' || *end || x < 1 || x > max) {
		syn_error("%s: \"%s\" is not a number from 1 to %llu%s", what,
			  text, (unsigned long long)max,
			  units ? ", K, M or G may follow" : "");
		return -EINVAL;
	}
	*ret = x;
	return 0;
}

static int parse_codec(const char *text, uint32_t *ret)
{
	if (strcmp(text, "raw16") == 0) {
		*ret = SYN_CODEC_RAW16;
	} else if (strcmp(text, "h4") == 0) {
		*ret = SYN_CODEC_H4;
	} else {
		syn_error("--codec: \"%s\" is neither raw16 nor h4", text);
		return -EINVAL;
	}
	return 0;
}

/* 0, or -EINVAL for what is no option; exits for --help. */
static int take_option(int c, struct options *o)
{
	switch (c) {
	case OPT_MODEL:
		o->model = optarg;
		return 0;
	case OPT_PROMPTS:
		o->prompts = optarg;
		return 0;
	case OPT_OUTPUT:
		o->output = optarg;
		return 0;
	case OPT_STATS:
		o->stats = optarg;
		return 0;
	case OPT_SOCKET:
		o->socket = optarg;
		return 0;
	case OPT_NAME:
		o->name = optarg;
		return 0;
	case OPT_HBM:
		return parse_number("--hbm", optarg, true, UINT64_MAX / 2,
				    &o->hbm_bytes);
	case OPT_SLOTS:
		return parse_number("--slots", optarg, false, SLOTS_MAX,
				    &o->slots);
	case OPT_SEQUENCES:
		return parse_number("--sequences", optarg, false, SEQUENCES_MAX,
				    &o->sequences);
	case OPT_MAX_TOKENS:
		return parse_number("--max-tokens", optarg, false,
				    MAX_TOKENS_MAX, &o->max_tokens);
	case OPT_CODEC:
		return parse_codec(optarg, &o->codec);
	case OPT_PERSIST:
		o->persist = true;
		return 0;
	case OPT_REPORT:
		o->report = true;
		return 0;
	case OPT_RECORD:
		o->record = optarg;
		o->report = true;
		return 0;
	case OPT_AUDIT:
		o->audit = true;
		return 0;
	case OPT_HELP:
		(void)fputs(usage, stdout);
		exit(EXIT_SUCCESS);
	case OPT_VERSION:
		(void)puts("synapse-infer " SYN_VERSION);
		exit(EXIT_SUCCESS);
	default:
		return -EINVAL;
	}
}

static int parse_options(int argc, char **argv, struct options *ret)
{
	struct options o = {
		.hbm_bytes = HBM_DEFAULT,
		.sequences = SEQUENCES_DEFAULT,
		.max_tokens = MAX_TOKENS_DEFAULT,
		.codec = SYN_CODEC_RAW16,
	};
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		if (take_option(c, &o))
			return -EINVAL;
	if (optind < argc || !o.model || !o.prompts) {
		(void)fputs(usage, stderr);
		return -EINVAL;
	}
	*ret = o;
	return 0;
}

/**
 * struct run - what a run holds; all of it may be NULL.
 * @model:	the weights.
 * @prompts:	what to answer.
 * @kv:		the pages.
 * @forward:	who computes.
 * @audit:	the daemon's counters.
 * @output:	results.
 * @stats:	where figures go.
 */
struct run {
	struct syn_model *model;
	struct syn_prompts *prompts;
	struct syn_kv *kv;
	struct syn_forward *forward;
	struct syn_audit *audit;
	struct syn_output output;
	FILE *stats;
};

static int open_file(const char *path, FILE **ret)
{
	FILE *file = fopen(path, "we");
	int r = -errno;

	if (!file) {
		syn_error("%s: %s", path, strerror(-r));
		return r;
	}
	*ret = file;
	return 0;
}

static int run_open_files(struct run *run, const struct options *o)
{
	int r = 0;

	run->output.file = stdout;
	if (o->output)
		r = open_file(o->output, &run->output.file);
	if (r == 0 && o->stats)
		r = open_file(o->stats, &run->stats);
	return r;
}

/* Where the pages are. */
static int run_open_forward(struct run *run, const struct options *o)
{
	uint64_t most = syn_prompts_longest(run->prompts) + o->max_tokens;

	int r = syn_forward_gpu_new(run->model, run->kv, most, &run->forward);

	if (r != -ENODEV)
		return r;
	return syn_forward_cpu_new(run->model, most, &run->forward);
}

/* No more sequences at once than there are prompts. */
static int run_open(struct run *run, struct options *o)
{
	struct syn_kv_opts kv = {
		.socket = o->socket,
		.name = o->name,
		.slots = (unsigned int)o->slots,
		.hbm_bytes = o->hbm_bytes,
		.codec = o->codec,
		.report = o->report,
		.record = o->record,
	};
	int r;

	r = syn_model_load(o->model, &run->model);
	if (r == 0)
		r = syn_prompts_load(o->prompts, &run->prompts);
	if (r == 0)
		r = run_open_files(run, o);
	if (r)
		return r;
	o->sequences = syn_min(o->sequences, (uint64_t)run->prompts->nr);
	kv.sequences = (unsigned int)o->sequences;
	kv.model = run->model->identity;
	kv.config = &run->model->config;
	if (o->audit)
		r = syn_audit_open(o->socket, &run->audit);
	if (r == 0)
		r = syn_kv_open(&kv, &run->kv);
	return r ? r : run_open_forward(run, o);
}

static int run_go(struct run *run, const struct options *o)
{
	const struct syn_engine_opts opts = {
		.config = &run->model->config,
		.forward = run->forward,
		.kv = run->kv,
		.prompts = run->prompts,
		.sequences = (unsigned int)o->sequences,
		.max_tokens = (unsigned int)o->max_tokens,
		.persist = o->persist,
		.audit = run->audit,
		.done = syn_output_result,
		.data = &run->output,
	};
	struct syn_engine_stats stats;
	int r;

	r = syn_engine_run(&opts, &stats);
	if (r == 0 && run->stats)
		r = syn_output_stats(&run->output, &stats, run->forward,
				     run->kv, run->audit, run->stats);
	/* Answers are right without it. */
	if (r == 0)
		r = syn_kv_record_end(run->kv);
	return r;
}

static int run_close(struct run *run)
{
	int r = 0;

	if (run->stats && fclose(run->stats))
		r = -errno;
	if (run->output.file && fclose(run->output.file))
		r = -errno;
	if (r)
		syn_error("output: %s", strerror(-r));
	syn_forward_free(run->forward);
	syn_kv_close(run->kv);
	syn_audit_close(run->audit);
	syn_prompts_free(run->prompts);
	syn_model_free(run->model);
	return r;
}

int main(int argc, char **argv)
{
	struct options o;
	struct run run = { 0 };
	int r;
	int closed;

	if (parse_options(argc, argv, &o))
		return EXIT_USAGE;
	r = run_open(&run, &o);
	if (r == 0)
		r = run_go(&run, &o);
	closed = run_close(&run);
	if (r == -ENOMEM)
		syn_error("out of memory");
	return r || closed ? EXIT_FAILURE : EXIT_SUCCESS;
}
