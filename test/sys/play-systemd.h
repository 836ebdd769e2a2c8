/* SPDX-License-Identifier: Apache-2.0 */
/* What a test and play-systemd share, in a file. */
#ifndef SYN_TEST_SYS_PLAY_SYSTEMD_H
#define SYN_TEST_SYS_PLAY_SYSTEMD_H

#include <stdint.h>

/* The environment of play-systemd: where the file is, if there is one, ... */
#define PLAY_ENV "SYN_TEST_PLAY"
/* ... and the program that it runs, if it is another. */
#define PLAY_PROGRAM_ENV "SYN_TEST_PLAY_PROGRAM"

/**
 * struct play - the file.
 * @store_max:	FileDescriptorStoreMax=
 * @restart_ms:	RestartSec=
 * @kill_at:	a worker is killed when it has sent so many messages, before the
 *		last of them is looked at; 0: none is.
 * @nr_doomed:	so many workers are killed while they take over.
 * @nr_messages: that came; the test sets it to 0 with @kill_at.
 * @nr_stored:	descriptors in the store.
 * @nr_full:	descriptors for which there was no room.
 */
struct play {
	uint64_t store_max;
	uint64_t restart_ms;
	uint64_t kill_at;
	uint64_t nr_doomed;
	uint64_t nr_messages;
	uint64_t nr_stored;
	uint64_t nr_full;
};

#endif
