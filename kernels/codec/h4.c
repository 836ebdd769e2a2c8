/* SPDX-License-Identifier: Apache-2.0 */
/* Codec h4: which form runs. */
#include "kernels/codec/h4.h"

#include <errno.h>
#include <math.h>

#include "core/base/base.h"
#include "kernels/codec/h4-form.h"

int syn_h4_error(float lost, float all, uint16_t *ret_error)
{
	float error = 0;

	if (!isfinite(lost) || !isfinite(all))
		return -EDOM;
	if (lost > 0)
		error = rintf(65536.0f * sqrtf(lost / all));
	*ret_error = (uint16_t)(error < 65535.0f ? error : 65535.0f);
	return 0;
}

unsigned int syn_h4_forms(const struct syn_h4_form **ret)
{
	unsigned int nr = 0;

	ret[nr++] = &syn_h4_plain;
#if defined(__x86_64__)
	/* Every CPU that has both converts fp16, too. */
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		ret[nr++] = &syn_h4_avx2;
	if (__builtin_cpu_supports("avx512vbmi") &&
	    __builtin_cpu_supports("avx512vnni"))
		ret[nr++] = &syn_h4_avx512;
#endif
	return nr;
}

static const struct syn_h4_form *h4_pick(void)
{
	const struct syn_h4_form *forms[SYN_H4_FORMS_MAX];

	return forms[syn_h4_forms(forms) - 1];
}

int syn_h4_encode(void *dst, const void *src, const struct syn_component *c,
		  uint16_t *ret_error)
{
	return h4_pick()->encode(dst, src, c, ret_error);
}

void syn_h4_decode(void *dst, const void *src, const struct syn_component *c)
{
	h4_pick()->decode(dst, src, c);
}
