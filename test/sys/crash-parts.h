/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds of clients, and what is known of the pages that they seal. */
#ifndef SYN_TEST_SYS_CRASH_PARTS_H
#define SYN_TEST_SYS_CRASH_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "test/sys/crash.h"

/* Geometries that a daemon can still be told of, at most. */
#define CRASH_SPACES 200u

/**
 * struct crash_world - shared by a campaign and all its clients.
 * @stop:	clients are to end.
 * @lossy:	the disk fails, so that pages may be lost.
 * @witness:	key of the first page that is never given back; 0: none.
 * @spaces:	geometries that were made up.
 * @rounds:	sessions that came to their end.
 * @refused:	sessions for which there was no room.
 * @found:	sealed pages that were found, every byte compared.
 * @missed:	that were not, as nobody leased them.
 * @lost:	pages that the disk has lost.
 */
struct crash_world {
	bool stop;
	bool lossy;
	uint64_t witness;
	uint64_t spaces;
	uint64_t rounds;
	uint64_t refused;
	uint64_t found;
	uint64_t missed;
	uint64_t lost;
};

/**
 * struct crash_client - one that comes again and again.
 * @socket:	where to.
 * @tenant:	to another domain.
 * @index:	in the table.
 * @disk:	there is a swap file.
 * @seed:	of its choices.
 * @crash:	shared with the workers.
 * @world:	shared with all clients.
 */
struct crash_client {
	const char *socket;
	const char *tenant;
	uint32_t index;
	bool disk;
	uint64_t seed;
	struct crash_table *crash;
	struct crash_world *world;
};

/* One session of any kind: 0, or what a client must never see. */
int crash_client_round(struct crash_client *c);
/* A session that asks for a geometry and a window. */
int crash_client_ask(struct crash_client *c);
/*
 * A session until the campaign stops; what it seals is always found.  @name: there
 * was none of that name before.
 */
int crash_client_witness(struct crash_client *c, uint64_t name);
/* Pages that are on disk, of a new name; and whether they are found again. */
int crash_client_leave(struct crash_client *c, uint64_t name, uint32_t nr);
int crash_client_return(struct crash_client *c, uint64_t name, uint32_t nr);

#endif
