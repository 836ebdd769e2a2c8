/* SPDX-License-Identifier: Apache-2.0 */
/* What became of a key and how a page is, in sentences. */
#include <inttypes.h>

#include "core/base/base.h"
#include "tools/ctl/show.h"

#define TEXT_MAX 192u

static const char *tier_text(uint32_t tier)
{
	static const char *const words[] = { "no tier", "HBM", "host memory",
					     "the swap file" };

	return tier < syn_array_size(words) ? words[tier] : "another tier";
}

static void who_text(const struct syn_ctl_why *why, char *ret)
{
	static const struct syn_column column = {
		"name", NULL, offsetof(struct syn_ctl_why, name),
		SYN_NAME_BYTES, SYN_FORM_TEXT
	};
	char name[SYN_FORM_TEXT_MAX];

	syn_column_text(&column, why, name);
	if (why->session == UINT32_MAX)
		(void)snprintf(ret, TEXT_MAX, "somebody");
	else
		(void)snprintf(ret, TEXT_MAX,
			       "session %" PRIu32 " (%s, pid %" PRIu32 ")",
			       why->session, name, why->pid);
}

static void place_text(const struct syn_ctl_why *why, char *ret)
{
	int n = 0;

	if (why->page != UINT32_MAX)
		n = snprintf(ret, TEXT_MAX, "page %" PRIu32 ", ", why->page);
	n += snprintf(ret + n, TEXT_MAX - (size_t)n, "space %" PRIu32,
		      why->space);
	if (why->domain == UINT32_MAX)
		(void)snprintf(ret + n, TEXT_MAX - (size_t)n,
			       ", a domain that has ended");
	else
		(void)snprintf(ret + n, TEXT_MAX - (size_t)n,
			       ", domain %" PRIu32, why->domain);
}

/* A lookup misses for a reason that is not this page's doing. */
static const char *other_text(const struct syn_ctl_why *why)
{
	static const char *const words[] = {
		[SYN_FIELD_NONE] = "a space that differs",
		[SYN_FIELD_MODEL] = "a space of another model",
		[SYN_FIELD_TOKENS] = "a space with other tokens a page",
		[SYN_FIELD_LAYERS] = "a space with other layers a page",
		[SYN_FIELD_COMPONENTS] = "a space with other components",
		[SYN_FIELD_FLOOR] = "a space that may lose other precision",
		[SYN_FIELD_CODED] = "a space that is read in another form",
	};

	if (why->cause == SYN_WHY_DOMAIN)
		return "another domain";
	return words[why->field < syn_array_size(words) ? why->field
							: SYN_FIELD_NONE];
}

static void show_there(FILE *out, const struct syn_ctl_why *why,
		       const char *where, const char *who)
{
	switch (why->cause) {
	case SYN_WHY_PRESENT:
		(void)fprintf(out, "present in %s: a lookup finds it (%s)\n",
			      tier_text(why->tier), where);
		return;
	case SYN_WHY_NOT_READY:
		(void)fprintf(out,
			      "not ready: sealed, but work of %s has not "
			      "finished (%s)\n",
			      who, where);
		return;
	case SYN_WHY_FIDELITY:
		(void)fprintf(out,
			      "fidelity: in %s with %" PRIu32 " bits only; "
			      "lookups that ask for more miss (%s)\n",
			      tier_text(why->tier), why->fidelity, where);
		return;
	default:
		(void)fprintf(out, "%s under this key in %s (%s)\n",
			      why->page == UINT32_MAX ? "was" : "is",
			      other_text(why), where);
		return;
	}
}

static void show_gone(FILE *out, const struct syn_ctl_why *why,
		      const char *where, const char *who)
{
	const char *tier = tier_text(why->tier);
	bool known = why->session != UINT32_MAX;
	char age[SYN_FORM_TEXT_MAX];

	syn_form_time(why->age_ns, age);
	switch (why->cause) {
	case SYN_WHY_EVICTED:
		(void)fprintf(out, "evicted %s ago from %s to make room%s%s",
			      age, tier, known ? " for " : "",
			      known ? who : "");
		break;
	case SYN_WHY_ORDERED:
		(void)fprintf(out, "evicted %s ago from %s by synapsectl", age,
			      tier);
		break;
	case SYN_WHY_CHECKSUM:
		(void)fprintf(out,
			      "lost %s ago: its bytes in %s did not verify",
			      age, tier);
		break;
	case SYN_WHY_DEVICE:
		(void)fprintf(out, "lost %s ago: %s failed", age, tier);
		break;
	case SYN_WHY_WRITER:
		(void)fprintf(out,
			      "dropped %s ago: its writer, %s, ended before it "
			      "was ready",
			      age, who);
		break;
	case SYN_WHY_REPLACED:
		(void)fprintf(out, "replaced %s ago: lost, then sealed by %s",
			      age, who);
		break;
	default:
		(void)fprintf(out, "cause %" PRIu32 ", %s ago", why->cause,
			      age);
		break;
	}
	(void)fprintf(out, " (%s)\n", where);
}

void syn_show_why(FILE *out, const struct syn_ctl_why *why)
{
	char where[TEXT_MAX];
	char who[TEXT_MAX];

	place_text(why, where);
	who_text(why, who);
	switch (why->cause) {
	case SYN_WHY_NEVER:
		(void)fprintf(out, "never sealed, or so long ago that it is "
				   "forgotten\n");
		return;
	case SYN_WHY_PRESENT:
	case SYN_WHY_NOT_READY:
	case SYN_WHY_FIDELITY:
	case SYN_WHY_IDENTITY:
	case SYN_WHY_DOMAIN:
		show_there(out, why, where, who);
		return;
	default:
		show_gone(out, why, where, who);
		return;
	}
}

/* ---- a page ------------------------------------------------------------- */

static void page_codec(FILE *out, const struct syn_ctl_page *page)
{
	if (page->codec != SYN_CODEC_RAW16)
		(void)fprintf(out,
			      "encoded with %" PRIu16 " bits: error %.2f %% in "
			      "its worst tile, %.2f %% on the average\n",
			      page->fidelity, page->error * 100.0 / 65536,
			      page->error_mean * 100.0 / 65536);
	else if (page->flags & SYN_PAGE_F_NOT_FINITE)
		(void)fprintf(out,
			      "kept raw: not all of its numbers are finite\n");
	else if (page->advice == SYN_ADVISE_ANCHOR)
		(void)fprintf(out, "kept raw: it is an anchor\n");
	else
		(void)fprintf(out, "raw: nothing is lost\n");
}

void syn_show_why_page(FILE *out, const struct syn_ctl_page *page)
{
	const char *state = syn_form_word(SYN_FORM_PAGE, page->state);
	uint32_t tiers = page->flags &
			 (SYN_PAGE_F_HBM | SYN_PAGE_F_HOST | SYN_PAGE_F_NVME);

	(void)fprintf(out,
		      "page %" PRIu32 " is %s, with %" PRIu32 " leases (space "
		      "%" PRIu32 ", domain %" PRIu32 ")\n",
		      page->index, state ? state : "in an unknown state",
		      page->nr_lessees, page->space, page->domain);
	if (page->state == SYN_PAGE_LOST)
		tiers = 0;
	for (uint32_t i = 0; i < SYN_QUOTA_TIERS; i++)
		if (tiers >> i & 1)
			(void)fprintf(out, "in %s\n",
				      tier_text(SYN_TIER_HBM + i));
	if (tiers && page->flags & SYN_PAGE_F_CODED)
		(void)fprintf(out, "in HBM as it is stored: read in place\n");
	if (tiers)
		page_codec(out, page);
	if (page->flags & SYN_PAGE_F_DURABLE)
		(void)fprintf(out, "durable: a power cut does not lose it\n");
	else if (page->flags & SYN_PAGE_F_NVME)
		(void)fprintf(out, "not durable: a power cut may lose it\n");
	if (!(page->flags & SYN_PAGE_F_KEYED))
		(void)fprintf(out, "without a key: no lookup finds it\n");
}
