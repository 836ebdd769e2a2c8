/* SPDX-License-Identifier: Apache-2.0 */
/* synapsed: options, then the keeper; or the worker, when somebody keeps. */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "core/base/base.h"
#include "core/base/log.h"
#include "tools/synapsed/budget.h"
#include "tools/synapsed/config.h"
#include "tools/synapsed/keep-process.h"
#include "tools/synapsed/keep-systemd.h"
#include "tools/synapsed/keeper.h"
#include "tools/synapsed/worker.h"

#define EXIT_USAGE 2

/* Values of getopt_long(); those of the table follow. */
enum {
	FLAG_CONFIG = 256,
	FLAG_CHECK,
	FLAG_SYSTEMD,
	FLAG_VERSION,
	FLAG_HELP,
	FLAG_WORKER,
	FLAG_TABLE,
};

#define MAIN_FLAGS_MAX 32

static const struct option main_flags[] = {
	{ "config", required_argument, NULL, FLAG_CONFIG },
	{ "check-config", no_argument, NULL, FLAG_CHECK },
	{ "systemd", no_argument, NULL, FLAG_SYSTEMD },
	{ "version", no_argument, NULL, FLAG_VERSION },
	{ "help", no_argument, NULL, FLAG_HELP },
	{ "worker", required_argument, NULL, FLAG_WORKER },
};

/**
 * struct command - what the command line says.
 * @config_path:	file, NULL: the default one if there is one.
 * @check:		only check the configuration.
 * @systemd:		systemd keeps, and this is the worker.
 * @worker_fd:		-1: this is not a keeper's worker.
 * @text:		values of the table's flags, NULL: not given.
 */
struct command {
	const char *config_path;
	bool check;
	bool systemd;
	int worker_fd;
	const char *text[MAIN_FLAGS_MAX];
};

static void usage_print(FILE *file)
{
	const struct syn_option *options;
	size_t nr;

	options = syn_config_options(&nr);
	(void)fprintf(file,
		      "usage: synapsed [options]\n\n"
		      "  --config FILE          read FILE (default: %s)\n"
		      "  --check-config         check, print what is in force, "
		      "and exit\n"
		      "  --systemd              the service's descriptor "
		      "store is the keeper\n"
		      "  --version              print the version\n"
		      "  --help                 print this\n\n",
		      SYN_CONFIG_PATH);
	for (size_t i = 0; i < nr; i++)
		(void)fprintf(file, "  --%-20s %s (%s)\n", options[i].flag,
			      options[i].help, options[i].fallback);
	(void)fprintf(file, "\nFlags beat SYNAPSE_* variables, which beat the "
			    "file: see synapse.conf(5).\n");
}

static void flags_build(struct option *to)
{
	const struct syn_option *options;
	size_t at = syn_array_size(main_flags);
	size_t nr;

	memcpy(to, main_flags, sizeof(main_flags));
	options = syn_config_options(&nr);
	for (size_t i = 0; i < nr; i++)
		to[at++] = (struct option){ options[i].flag, required_argument,
					    NULL, FLAG_TABLE + (int)i };
	to[at] = (struct option){ 0 };
}

/* -1: go on; else the exit code. */
static int command_parse(int argc, char **argv, struct command *ret)
{
	struct option flags[MAIN_FLAGS_MAX + syn_array_size(main_flags)];
	int flag;

	flags_build(flags);
	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
		switch (flag) {
		case FLAG_CONFIG:
			ret->config_path = optarg;
			break;
		case FLAG_CHECK:
			ret->check = true;
			break;
		case FLAG_SYSTEMD:
			ret->systemd = true;
			break;
		case FLAG_VERSION:
			(void)printf("synapsed %s\n", SYN_VERSION);
			return 0;
		case FLAG_HELP:
			usage_print(stdout);
			return 0;
		case FLAG_WORKER:
			ret->worker_fd = atoi(optarg);
			break;
		default:
			if (flag < FLAG_TABLE)
				return EXIT_USAGE;
			ret->text[flag - FLAG_TABLE] = optarg;
		}
	}
	if (optind < argc) {
		syn_error("%s: not an option; see synapsed --help",
			  argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

static int flags_apply(const struct command *command, struct syn_config *config)
{
	const struct syn_option *options;
	char where[64];
	size_t nr;
	int r = 0;

	options = syn_config_options(&nr);
	for (size_t i = 0; i < nr && !r; i++) {
		if (!command->text[i])
			continue;
		(void)snprintf(where, sizeof(where), "--%s", options[i].flag);
		r = syn_option_set(config, &options[i], command->text[i],
				   where);
	}
	return r;
}

static int config_build(const struct command *command, struct syn_config *ret)
{
	const char *path = command->config_path;
	int r = 0;

	if (!path)
		path = getenv("SYNAPSE_CONFIG");
	if (!path && access(SYN_CONFIG_PATH, F_OK) == 0)
		path = SYN_CONFIG_PATH;
	syn_config_default(ret);
	if (path)
		r = syn_config_read(ret, path);
	if (!r)
		r = syn_config_environment(ret);
	if (!r)
		r = flags_apply(command, ret);
	if (!r)
		r = syn_budget_settle(ret);
	return r ? r : syn_config_check(ret);
}

/* Every session costs a few descriptors in keeper and worker. */
static void nofile_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int worker_main(int sock)
{
	struct syn_keep_process process;

	/* Not for children, if a library should ever start one. */
	(void)fcntl(sock, F_SETFD, FD_CLOEXEC);
	syn_keep_process_init(&process, sock);
	return syn_worker_main(&process.keep);
}

static int systemd_main(const struct syn_config *config)
{
#if SYN_HAVE_SYSTEMD
	struct syn_keep_systemd systemd;
	int code;

	syn_keep_systemd_init(&systemd, config);
	code = syn_worker_main(&systemd.keep);
	syn_keep_systemd_deinit(&systemd);
	return code;
#else
	(void)config;
	syn_error("--systemd: this synapsed was built without libsystemd");
	return 1;
#endif
}

int main(int argc, char **argv)
{
	struct command command = { .worker_fd = -1 };
	struct syn_config config;
	int code;

	code = command_parse(argc, argv, &command);
	if (code >= 0)
		return code;
	nofile_raise();
	/* Whoever reads our standard error may go away. */
	(void)signal(SIGPIPE, SIG_IGN);
	if (command.worker_fd >= 0)
		return worker_main(command.worker_fd);
	if (config_build(&command, &config))
		return 1;
	if (command.check) {
		syn_config_print(&config, stdout);
		return 0;
	}
	syn_log_set_level((enum syn_log_level)config.log_level);
	return command.systemd ? systemd_main(&config)
			       : syn_keeper_main(&config);
}
