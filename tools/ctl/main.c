/* SPDX-License-Identifier: Apache-2.0 */
/* synapsectl: asks synapsed over a control session, and shows the answer. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "tools/ctl/options.h"
#include "tools/ctl/query.h"
#include "tools/ctl/record.h"
#include "tools/ctl/show.h"
#include "tools/ctl/swap.h"

#define EXIT_REFUSED 1
#define EXIT_USAGE   2
#define FSCK_TRIES   4 /* walks, if pages change meanwhile */
#define FSCK_FOUND   1 /* something is not as it should be */
/* So long another worker may take to begin. */
#define UPGRADE_WAIT_NS 30000000000u

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
	interrupted = 1;
}

/**
 * struct list - records gathered from several replies.
 * @type:	what they are.
 * @data:	@nr of them, @max allocated.
 * @nr:		see there.
 * @max:	see there.
 */
struct list {
	const struct syn_record_type *type;
	unsigned char *data;
	size_t nr;
	size_t max;
};

static int list_add(struct list *list, const void *record)
{
	if (list->nr == list->max) {
		size_t max = list->max ? list->max * 2 : SYN_CTL_BATCH;
		unsigned char *data = syn_alloc(max, list->type->bytes);

		if (!data)
			return -ENOMEM;
		if (list->nr)
			memcpy(data, list->data, list->nr * list->type->bytes);
		free(list->data);
		list->data = data;
		list->max = max;
	}
	memcpy(list->data + list->nr * list->type->bytes, record,
	       list->type->bytes);
	list->nr++;
	return 0;
}

static const void *list_at(const struct list *list, size_t i)
{
	return list->data + i * list->type->bytes;
}

static void list_freep(struct list *list)
{
	free(list->data);
}

static bool page_is_wanted(const struct syn_options *opts,
			   const struct syn_ctl_page *page)
{
	char key[SYN_KEY_DIGITS + 1];

	if (opts->resident && !(page->flags & SYN_PAGE_F_HBM))
		return false;
	if (opts->errors && page->codec == SYN_CODEC_RAW16)
		return false;
	if (opts->by_session && page->session != opts->session)
		return false;
	if (!opts->key[0])
		return true;
	(void)snprintf(key, sizeof(key), "%016" PRIx64 "%016" PRIx64,
		       page->key[0], page->key[1]);
	return (page->key[0] || page->key[1]) &&
	       !strncmp(key, opts->key, strlen(opts->key));
}

/* What is to be sorted is cut afterwards. */
static bool list_full(const struct list *list, const struct syn_options *opts)
{
	return !opts->errors && list->nr >= opts->limit;
}

static int list_take(struct list *list, const struct syn_answer *answer,
		     const struct syn_options *opts)
{
	const unsigned char *at = answer->records;

	for (uint32_t i = 0; i < answer->nr; i++, at += list->type->bytes) {
		struct syn_ctl_page page;

		if (list_full(list, opts))
			return 0;
		if (list->type == &syn_record_pages) {
			memcpy(&page, at, sizeof(page));
			if (!page_is_wanted(opts, &page))
				continue;
		}
		if (list_add(list, at) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* A cursor that does not move would be asked for ever. */
static int list_fetch(struct list *list, struct syn_query *query,
		      const struct syn_options *opts)
{
	struct syn_answer answer = { 0 };
	uint64_t cursor;
	int r;

	do {
		cursor = answer.next;
		r = syn_query_ask(query, list->type->op, cursor, NULL,
				  list->type->bytes, &answer);
		if (r < 0)
			return r;
		r = list_take(list, &answer, opts);
		if (r < 0)
			return r;
		if (answer.next && answer.next <= cursor)
			return -EPROTO;
	} while (answer.next && !list_full(list, opts) && !interrupted);
	return 0;
}

static int error_cmp(const void *a, const void *b)
{
	struct syn_ctl_page x;
	struct syn_ctl_page y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	if (x.error != y.error)
		return x.error > y.error ? -1 : 1;
	if (x.error_mean != y.error_mean)
		return x.error_mean > y.error_mean ? -1 : 1;
	return x.index < y.index ? -1 : x.index > y.index;
}

static void list_worst(struct list *list, const struct syn_options *opts)
{
	if (list->nr)
		qsort(list->data, list->nr, list->type->bytes, error_cmp);
	if (list->nr > opts->limit)
		list->nr = (size_t)opts->limit;
}

static void summary_status(const struct list *list)
{
	struct syn_ctl_status status;
	char up[SYN_FORM_TEXT_MAX];

	memcpy(&status, list->data, sizeof(status));
	syn_form_time(status.uptime_ns, up);
	(void)printf("synapsed up %s, %" PRIu32 " sessions, %" PRIu64
		     " of %" PRIu64 " pages%s\n",
		     up, status.nr_sessions, status.nr_pages, status.max_pages,
		     status.draining ? ", draining" : "");
}

static void summary_tiers(const struct list *list)
{
	char used[SYN_FORM_TEXT_MAX], budget[SYN_FORM_TEXT_MAX];
	uint64_t used_bytes = 0, budget_bytes = 0;
	struct syn_ctl_tier tier;

	for (size_t i = 0; i < list->nr; i++) {
		memcpy(&tier, list_at(list, i), sizeof(tier));
		used_bytes += tier.used_bytes;
		budget_bytes += tier.budget_bytes;
	}
	syn_form_bytes(used_bytes, used);
	syn_form_bytes(budget_bytes, budget);
	(void)printf("%zu tiers, %s of %s used\n", list->nr, used, budget);
}

static void summary_clients(const struct list *list)
{
	struct syn_ctl_client client;
	uint64_t leases = 0;
	size_t live = 0;

	for (size_t i = 0; i < list->nr; i++) {
		memcpy(&client, list_at(list, i), sizeof(client));
		live += client.state == SYN_CLIENT_LIVE;
		leases += client.nr_leases;
	}
	(void)printf("%zu live, %zu in quarantine, %" PRIu64 " leases\n", live,
		     list->nr - live, leases);
}

static void summary_pages(const struct list *list)
{
	size_t hbm = 0, host = 0, keyed = 0;
	struct syn_ctl_page page;

	for (size_t i = 0; i < list->nr; i++) {
		memcpy(&page, list_at(list, i), sizeof(page));
		hbm += !!(page.flags & SYN_PAGE_F_HBM);
		host += !!(page.flags & SYN_PAGE_F_HOST);
		keyed += !!(page.flags & SYN_PAGE_F_KEYED);
	}
	(void)printf("%zu pages shown, %zu in hbm, %zu in host, %zu keyed\n",
		     list->nr, hbm, host, keyed);
}

static void summary_domains(const struct list *list)
{
	struct syn_ctl_domain domain;
	uint64_t refused = 0;

	for (size_t i = 0; i < list->nr; i++) {
		memcpy(&domain, list_at(list, i), sizeof(domain));
		refused += domain.refused;
	}
	(void)printf("%zu domains, %" PRIu64 " requests refused by quotas\n",
		     list->nr, refused);
}

/**
 * struct view - a command that shows records.
 * @type:	of the records.
 * @summary:	one line about all of them.
 */
struct view {
	const struct syn_record_type *type;
	void (*summary)(const struct list *list);
};

static const struct view views[] = {
	[SYN_COMMAND_STATUS] = { &syn_record_status, summary_status },
	[SYN_COMMAND_TIERS] = { &syn_record_tiers, summary_tiers },
	[SYN_COMMAND_CLIENTS] = { &syn_record_clients, summary_clients },
	[SYN_COMMAND_PAGES] = { &syn_record_pages, summary_pages },
	[SYN_COMMAND_DOMAINS] = { &syn_record_domains, summary_domains },
};

static int view_print(const struct view *view, const struct list *list,
		      const struct syn_options *opts)
{
	bool single = opts->command == SYN_COMMAND_STATUS;

	if (single && list->nr != 1)
		return -EPROTO;
	if (opts->json)
		return single ? syn_show_json_record(stdout, view->type,
						     list->data)
			      : syn_show_json_table(stdout, view->type,
						    list->data, list->nr);
	view->summary(list);
	if (single)
		syn_show_list(stdout, view->type, list->data);
	else
		syn_show_table(stdout,
			       opts->errors ? &syn_record_errors : view->type,
			       list->data, list->nr);
	return fflush(stdout) || ferror(stdout) ? -EIO : 0;
}

static int view_once(struct syn_query *query, const struct syn_options *opts)
{
	const struct view *view = &views[opts->command];
	syn_cleanup(list_freep) struct list list = { .type = view->type };
	int r;

	r = list_fetch(&list, query, opts);
	if (r < 0)
		return r;
	if (opts->errors)
		list_worst(&list, opts);
	if (opts->watch && !opts->json)
		(void)fputs("\033[H\033[2J", stdout);
	return view_print(view, &list, opts);
}

static int view_run(struct syn_query *query, const struct syn_options *opts)
{
	const struct timespec interval = {
		.tv_sec = (time_t)(opts->interval_ns / 1000000000u),
		.tv_nsec = (long)(opts->interval_ns % 1000000000u),
	};
	int r;

	do {
		r = view_once(query, opts);
		if (r < 0)
			return interrupted ? 0 : r;
		if (opts->watch && !interrupted)
			(void)nanosleep(&interval, NULL);
	} while (opts->watch && !interrupted);
	return 0;
}

static int evict_run(struct syn_query *query, const struct syn_options *opts)
{
	const uint64_t args[4] = { opts->count };
	struct syn_answer answer;
	int r;

	r = syn_query_ask(query, SYN_CTL_EVICT, 0, args, 0, &answer);
	if (r < 0)
		return r;
	if (opts->json)
		return syn_show_json_evict(stdout, answer.val);
	(void)printf("%" PRIu64 " pages dropped\n", answer.val);
	return 0;
}

static int drain_run(struct syn_query *query, const struct syn_options *opts)
{
	const uint64_t args[4] = { opts->count };
	struct syn_answer answer;
	bool on = opts->count != 0;
	int r;

	r = syn_query_ask(query, SYN_CTL_DRAIN, 0, args, 0, &answer);
	if (r < 0)
		return r;
	if (opts->json)
		return syn_show_json_drain(stdout, on, answer.val);
	(void)printf("draining %s, %" PRIu64 " sessions\n", on ? "on" : "off",
		     answer.val);
	return 0;
}

/* A name that stands for two is nobody's. */
static int domain_find(const struct list *list, const char *text, uint32_t *ret)
{
	struct syn_ctl_domain domain;
	unsigned int nr = 0;
	char number[16];

	for (size_t i = 0; i < list->nr; i++) {
		memcpy(&domain, list_at(list, i), sizeof(domain));
		(void)snprintf(number, sizeof(number), "%" PRIu32,
			       domain.domain);
		if (strncmp(domain.name, text, sizeof(domain.name)) != 0 &&
		    strcmp(number, text) != 0)
			continue;
		*ret = domain.domain;
		nr++;
	}
	return nr == 1 ? 0 : nr ? -ENOTUNIQ : -ENOENT;
}

static const char *quota_why(int error)
{
	switch (error) {
	case -ENOENT:
		return "no such domain";
	case -ENOTUNIQ:
		return "several domains have that name: give the number";
	case -EINVAL:
		return "expected MIN <= HIGH <= MAX";
	case -ENOSPC:
		return "all minimums together are more than the budget";
	case -EBUSY:
		return "MAX is less than the domain's windows hold";
	default:
		return "";
	}
}

static int quota_run(struct syn_query *query, const struct syn_options *opts,
		     const char **ret_why)
{
	syn_cleanup(list_freep) struct list list = {
		.type = &syn_record_domains,
	};
	struct syn_answer answer;
	uint32_t domain = 0;
	int r;

	r = list_fetch(&list, query, opts);
	if (!r) {
		r = domain_find(&list, opts->domain, &domain);
		*ret_why = quota_why(r);
	}
	if (!r) {
		const uint64_t args[4] = { SYN_QUOTA_AT(domain, opts->tier),
					   opts->min, opts->high, opts->max };

		r = syn_query_ask(query, SYN_CTL_QUOTA, 0, args, 0, &answer);
		*ret_why = quota_why(r);
	}
	if (r < 0)
		return r;
	if (opts->json)
		return syn_show_json_quota(stdout, domain);
	(void)printf("quota of domain %" PRIu32 " set\n", domain);
	return 0;
}

/* -ENOENT: its record is free. */
static int why_page(struct syn_query *query, const struct syn_options *opts,
		    struct syn_ctl_page *ret)
{
	struct syn_answer answer;
	int r;

	r = syn_query_ask(query, SYN_CTL_PAGES, opts->why_page, NULL,
			  sizeof(*ret), &answer);
	if (r < 0)
		return r;
	if (answer.nr)
		memcpy(ret, answer.records, sizeof(*ret));
	return answer.nr && ret->index == opts->why_page ? 0 : -ENOENT;
}

/* Of a key, or of a page, with what became of its key where it is. */
static int why_run(struct syn_query *query, const struct syn_options *opts,
		   const char **ret_why)
{
	uint64_t args[4] = { opts->why_key[0], opts->why_key[1],
			     SYN_WHY_AT(opts->at_space, opts->at_domain) };
	bool by_page = !args[0] && !args[1];
	struct syn_answer answer = { 0 };
	struct syn_ctl_page page;
	struct syn_ctl_why why;
	int r = 0;

	if (by_page) {
		r = why_page(query, opts, &page);
		*ret_why = r == -ENOENT ? "no such page" : "";
		if (r < 0)
			return r;
		memcpy(args, page.key, sizeof(page.key));
		args[2] = SYN_WHY_AT(page.space, page.domain);
	}
	if (args[0] || args[1])
		r = syn_query_ask(query, SYN_CTL_WHY, 0, args, sizeof(why),
				  &answer);
	*ret_why = r == -ENOENT ? "no such space or domain" : "";
	if (r < 0)
		return r;
	if (opts->json)
		return syn_show_json_why(stdout, by_page ? &page : NULL,
					 answer.records, answer.nr);
	if (by_page)
		syn_show_why_page(stdout, &page);
	for (uint32_t i = 0; i < answer.nr; i++) {
		memcpy(&why, (const struct syn_ctl_why *)answer.records + i,
		       sizeof(why));
		syn_show_why(stdout, &why);
	}
	return fflush(stdout) || ferror(stdout) ? -EIO : 0;
}

/* The last answer has all there is. */
static int fsck_walk(struct syn_query *query, bool at_once,
		     struct syn_answer *ret)
{
	const uint64_t args[4] = { at_once };
	uint64_t cursor = 0;
	int r;

	do {
		r = syn_query_ask(query, SYN_CTL_FSCK, cursor, args,
				  sizeof(struct syn_ctl_fsck), ret);
		if (r < 0)
			return r;
		if (ret->next && ret->next <= cursor)
			return -EPROTO;
		cursor = ret->next;
	} while (cursor);
	return 0;
}

static int fsck_print(const struct syn_options *opts,
		      const struct syn_answer *answer)
{
	uint64_t found = SYN_FSCK_FOUND(answer->val);

	if (opts->json)
		return syn_show_json_fsck(stdout, answer->records, answer->nr,
					  answer->val);
	(void)printf("%" PRIu64 " things found%s\n", found,
		     answer->val & SYN_FSCK_MOVED
			     ? "; pages changed, so counts were not compared"
			     : "");
	syn_show_table(stdout, &syn_record_fsck, answer->records, answer->nr);
	return fflush(stdout) || ferror(stdout) ? -EIO : 0;
}

/* FSCK_FOUND, or 0: nothing was found. */
static int fsck_run(struct syn_query *query, const struct syn_options *opts,
		    const char **ret_why)
{
	struct syn_answer answer = { .val = SYN_FSCK_MOVED };
	int r = 0;

	for (int i = 0; i < FSCK_TRIES && answer.val == SYN_FSCK_MOVED; i++) {
		r = fsck_walk(query, opts->at_once, &answer);
		*ret_why = r == -ESTALE ? "another one has been begun" : "";
		if (r < 0)
			return r;
	}
	r = fsck_print(opts, &answer);
	if (r < 0)
		return r;
	return SYN_FSCK_FOUND(answer.val) ? FSCK_FOUND : 0;
}

static int status_ask(struct syn_query *query, struct syn_ctl_status *ret)
{
	struct syn_answer answer;
	int r;

	r = syn_query_ask(query, SYN_CTL_STATUS, 0, NULL, sizeof(*ret),
			  &answer);
	if (r < 0)
		return r;
	if (answer.nr != 1)
		return -EPROTO;
	memcpy(ret, answer.records, sizeof(*ret));
	return 0;
}

/* The connection ended with the worker; another one answers soon. */
static int upgrade_wait(const struct syn_options *opts, uint64_t epoch,
			struct syn_ctl_status *ret)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	const uint64_t deadline_ns = syn_now_ns() + UPGRADE_WAIT_NS;
	char reason[SYN_REASON_BYTES];
	struct syn_query *query;
	int r;

	do {
		(void)nanosleep(&pause, NULL);
		r = syn_query_open(opts->socket, &query, reason);
		if (r < 0)
			continue;
		r = status_ask(query, ret);
		query = syn_query_close(query);
		if (!r && ret->epoch > epoch)
			return 0;
	} while (syn_now_ns() < deadline_ns);
	return r < 0 ? r : -ETIMEDOUT;
}

static int upgrade_run(struct syn_query *query, const struct syn_options *opts,
		       const char **ret_why)
{
	struct syn_ctl_status status;
	struct syn_answer answer;
	uint64_t epoch;
	int r;

	r = status_ask(query, &status);
	if (r < 0)
		return r;
	epoch = status.epoch;
	r = syn_query_ask(query, SYN_CTL_UPGRADE, 0, NULL, 0, &answer);
	if (r < 0)
		return r;
	*ret_why = "no worker has taken over";
	r = upgrade_wait(opts, epoch, &status);
	if (r < 0)
		return r;
	*ret_why = "the program on disk could not take over; the daemon's log "
		   "says why";
	if (status.epoch > epoch + 1)
		return -ENOEXEC;
	if (opts->json)
		return syn_show_json_upgrade(stdout, &status);
	(void)printf("worker %" PRIu32 ", epoch %" PRIu64 ", %" PRIu32
		     " sessions\n",
		     status.worker_pid, status.epoch, status.nr_sessions);
	return 0;
}

static int complain(int error, const char *reason)
{
	(void)fprintf(stderr, "synapsectl: %s%s%s\n", reason,
		      *reason ? ": " : "", strerror(-error));
	return EXIT_REFUSED;
}

/* Not restarted: a signal ends the wait for an answer, too. */
static void interrupt_setup(void)
{
	const struct sigaction action = { .sa_handler = on_interrupt };

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

int main(int argc, char **argv)
{
	char reason[SYN_REASON_BYTES];
	const char *why = "";
	struct syn_query *query;
	struct syn_options opts;
	int r;

	r = syn_options_parse(argc, argv, &opts);
	if (r != SYN_OPTIONS_RUN)
		return r == SYN_OPTIONS_DONE ? EXIT_SUCCESS : EXIT_USAGE;
	if (opts.command == SYN_COMMAND_SWAP_INIT)
		return syn_swap_run_init(&opts) ? EXIT_REFUSED : EXIT_SUCCESS;
	if (opts.command == SYN_COMMAND_SWAP_CHECK)
		return syn_swap_run_check(&opts) ? EXIT_REFUSED : EXIT_SUCCESS;
	r = syn_query_open(opts.socket, &query, reason);
	if (r < 0)
		return complain(r, reason);
	if (opts.watch)
		interrupt_setup();
	if (opts.command == SYN_COMMAND_EVICT)
		r = evict_run(query, &opts);
	else if (opts.command == SYN_COMMAND_DRAIN)
		r = drain_run(query, &opts);
	else if (opts.command == SYN_COMMAND_QUOTA)
		r = quota_run(query, &opts, &why);
	else if (opts.command == SYN_COMMAND_WHY)
		r = why_run(query, &opts, &why);
	else if (opts.command == SYN_COMMAND_FSCK)
		r = fsck_run(query, &opts, &why);
	else if (opts.command == SYN_COMMAND_UPGRADE)
		r = upgrade_run(query, &opts, &why);
	else
		r = view_run(query, &opts);
	if (r < 0)
		(void)complain(r, *why ? why : syn_query_reason(query));
	query = syn_query_close(query);
	return r ? EXIT_REFUSED : EXIT_SUCCESS;
}
