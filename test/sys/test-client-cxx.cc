/* SPDX-License-Identifier: Apache-2.0 */
/* The public header in C++, linked with the shared library as an engine does. */
#include <cerrno>

#include <synapse/client.h>

int main()
{
	struct syn_attach_opts opts = SYN_OPTS(struct syn_attach_opts);
	struct syn_window_opts share = SYN_OPTS(syn_window_opts);
	struct syn_client *client = nullptr;
	char reason[SYN_REASON_BYTES];

	opts.path = "/nonexistent/synapse.sock";
	if (syn_attach(&opts, &client, reason) != -ENOENT || client)
		return 1;
	if (syn_detach(nullptr) || share.slots || share.sz != sizeof(share))
		return 2;
	return 0;
}
