/* SPDX-License-Identifier: Apache-2.0 */
/* What [hbm] device may say. */
#include "tools/synapsed/config.h"

#include <string.h>

/* "GPU-" and 32 digits, in groups of 8, 4, 4, 4 and 12. */
static bool device_is_uuid(const char *text)
{
	static const char form[] = "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i;

	for (i = 0; form[i] && text[i]; i++)
		if (form[i] == 'x' ? !strchr("0123456789abcdef", text[i])
				   : text[i] != form[i])
			return false;
	return !form[i] && !text[i];
}

bool syn_config_device_known(const char *text)
{
	return !strcmp(text, SYN_CONFIG_DEVICE_HOST) ||
	       !strcmp(text, SYN_CONFIG_DEVICE_CUDA) || device_is_uuid(text);
}

bool syn_config_on_gpu(const struct syn_config *config)
{
	return strcmp(config->device, SYN_CONFIG_DEVICE_HOST) != 0;
}
