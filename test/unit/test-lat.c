/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic of synapse-lat: buckets, news, folding; and its command line. */
#include "tools/lat/table.h"

#include <getopt.h>

#include "core/base/base.h"
#include "test/test.h"
#include "tools/lat/options.h"

static struct syn_lat_entry entry_of(uint32_t session, uint32_t tier,
				     uint32_t cause, unsigned int bucket,
				     uint64_t count)
{
	struct syn_lat_entry entry = {
		.key = { .worker = 7,
			 .session = session,
			 .tier = tier,
			 .cause = cause },
		.hist = { .fault_ns = count * 1000 },
	};

	entry.hist.fault[bucket] = count;
	return entry;
}

static void test_buckets(void **state)
{
	uint64_t buckets[SYN_LAT_BUCKETS] = { 0 };

	(void)state;
	assert_int_equal(syn_lat_bucket_from_ns(0), 0);
	assert_int_equal(syn_lat_bucket_from_ns(1), 1024);
	assert_int_equal(syn_lat_bucket_from_ns(2), 2048);
	assert_int_equal(syn_lat_bucket_from_ns(SYN_LAT_BUCKETS), UINT64_MAX);
	assert_int_equal(syn_lat_sum(buckets), 0);
	assert_int_equal(syn_lat_quantile_ns(buckets, 500), 0);
	buckets[0] = 50;
	buckets[3] = 49;
	buckets[SYN_LAT_BUCKETS - 1] = 1;
	assert_int_equal(syn_lat_sum(buckets), 100);
	assert_int_equal(syn_lat_quantile_ns(buckets, 500), 1024);
	assert_int_equal(syn_lat_quantile_ns(buckets, 501), 8192);
	assert_int_equal(syn_lat_quantile_ns(buckets, 990), 8192);
	assert_int_equal(syn_lat_quantile_ns(buckets, 1000), UINT64_MAX);
}

static void test_news(void **state)
{
	struct syn_lat_entry before[] = {
		entry_of(1, 2, 1, 4, 10), /* goes on */
		entry_of(2, 2, 1, 4, 10), /* rests */
		entry_of(3, 2, 1, 4, 10), /* was dropped, and is not back */
		entry_of(4, 2, 1, 4, 10), /* was dropped, and begins again */
	};
	struct syn_lat_entry now[] = {
		entry_of(1, 2, 1, 4, 13), entry_of(2, 2, 1, 4, 10),
		entry_of(4, 2, 1, 4, 2),  entry_of(5, 2, 1, 4, 1),
		entry_of(6, 2, 1, 4, 0),
	};
	struct syn_lat_entry news[syn_array_size(now)];
	size_t nr;

	(void)state;
	now[4].hist.failed = 3;
	nr = syn_lat_news(before, syn_array_size(before), now,
			  syn_array_size(now), news);
	assert_int_equal(nr, 4);
	assert_int_equal(news[0].key.session, 1);
	assert_int_equal(news[0].hist.fault[4], 3);
	assert_int_equal(news[0].hist.fault_ns, 3000);
	assert_int_equal(news[1].key.session, 4);
	assert_int_equal(news[1].hist.fault[4], 2);
	assert_int_equal(news[2].key.session, 5);
	assert_int_equal(news[2].hist.fault[4], 1);
	assert_int_equal(news[3].key.session, 6);
	assert_int_equal(syn_lat_hist_ended(&news[3].hist), 3);
	assert_int_equal(syn_lat_news(now, 5, now, 5, news), 0);
	assert_int_equal(syn_lat_news(NULL, 0, now, 5, news), 5);
}

static void test_fold(void **state)
{
	const struct syn_lat_entry all[] = {
		entry_of(2, 3, 1, 6, 1),
		entry_of(1, 3, 2, 5, 2),
		entry_of(1, 2, 1, 4, 4),
		entry_of(1, 2, 1, 4, 8),
	};
	struct syn_lat_entry entries[syn_array_size(all)];

	(void)state;
	memcpy(entries, all, sizeof(all));
	assert_int_equal(syn_lat_fold(entries, 4,
				      SYN_LAT_BY_CAUSE | SYN_LAT_BY_CLIENT |
					      SYN_LAT_BY_TIER),
			 3);
	assert_int_equal(entries[0].hist.fault[4], 12);
	assert_int_equal(entries[0].key.worker, 7);
	assert_int_equal(entries[2].key.session, 2);
	memcpy(entries, all, sizeof(all));
	assert_int_equal(syn_lat_fold(entries, 4, SYN_LAT_BY_TIER), 2);
	assert_int_equal(entries[0].key.tier, 2);
	assert_int_equal(entries[0].key.session, 0);
	assert_int_equal(entries[0].key.worker, 0);
	assert_int_equal(entries[0].key.cause, 0);
	assert_int_equal(syn_lat_sum(entries[0].hist.fault), 12);
	assert_int_equal(syn_lat_sum(entries[1].hist.fault), 3);
	assert_int_equal(entries[1].hist.fault_ns, 3000);
	assert_int_equal(syn_lat_fold(entries, 0, 0), 0);
}

static int parse(struct syn_lat_options *ret, const char *a, const char *b,
		 const char *c)
{
	char *const argv[] = { (char *)"synapse-lat", (char *)a, (char *)b,
			       (char *)c, NULL };
	int argc = 1;

	while (argv[argc])
		argc++;
	optind = 0;
	return syn_lat_options_parse(argc, (char **)argv, ret);
}

static void test_options(void **state)
{
	struct syn_lat_options opts;

	(void)state;
	assert_int_equal(parse(&opts, NULL, NULL, NULL), SYN_LAT_OPTIONS_RUN);
	assert_int_equal(opts.by, SYN_LAT_BY_CAUSE | SYN_LAT_BY_CLIENT |
					  SYN_LAT_BY_TIER);
	assert_int_equal(opts.interval_ns, 1000000000);
	assert_int_equal(opts.count, UINT64_MAX);
	assert_int_equal(parse(&opts, "--by=tier,cause", "0.5", "3"),
			 SYN_LAT_OPTIONS_RUN);
	assert_int_equal(opts.by, SYN_LAT_BY_CAUSE | SYN_LAT_BY_TIER);
	assert_int_equal(opts.interval_ns, 500000000);
	assert_int_equal(opts.count, 3);
	assert_int_equal(parse(&opts, "--by=tier,,cause", NULL, NULL),
			 SYN_LAT_OPTIONS_USAGE);
	assert_int_equal(parse(&opts, "0.001", NULL, NULL),
			 SYN_LAT_OPTIONS_USAGE);
	assert_int_equal(parse(&opts, "1", "-1", NULL), SYN_LAT_OPTIONS_USAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_news),
		cmocka_unit_test(test_fold),
		cmocka_unit_test(test_options),
	};

	test_watchdog();
	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
