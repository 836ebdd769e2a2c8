/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring pair and its sleep: ipc/ring.h with letters as there.
 *
 * A client keeps at most RING requests in flight and sleeps for completions;
 * the daemon answers each request and sleeps for submissions.  Both directions
 * run the same code: publish (b), look for a sleeper (g), ring an eventfd;
 * announce (e), look again (f), block.
 *
 * Checked: every request is answered, in order and once, under weak fairness;
 * nobody blocks for ever; no entry is overwritten before it was read; the
 * daemon always has room for an answer.
 *
 * A seq_cst store is one step.  Mutants 3 and 4 weaken one to a store that
 * waits in a store buffer while its owner goes on to the next load.
 *
 *	1  the consumer does not look again after announcing
 *	2  the producer looks for a sleeper before it publishes
 *	3  the store of the tail may pass the load of the announcement
 *	4  the store of the announcement may pass the second look
 *	5  the consumer empties the eventfd between the second look and blocking
 *	6  the consumer looks, then announces
 *	7  the tail is published before the entry is written
 *	8  the client counts what it submitted, not what is unanswered
 */
#ifndef MUTANT
#define MUTANT 0
#endif

#define REQUESTS 4
#define RING 2
#define SQ 0
#define CQ 1

byte tail[2];		/* producer writes */
byte head[2];		/* consumer writes */
bit sleeps[2];		/* consumer writes */
bit bell[2];		/* the eventfd's counter: zero or not */
byte entry[4];		/* RING entries of each direction */
byte late_tail[2];	/* the store buffer of each producer ... */
bit late_sleeps[2];	/* ... and of each consumer */
byte reaped;

#define ENTRY(d, index) entry[(d) * RING + (index) % RING]

inline store_tail(d, own) {
#if MUTANT == 3
	late_tail[d] = own
#else
	tail[d] = own			/* b */
#endif
}

inline ring_bell(d) {
	if
	:: sleeps[d] -> bell[d] = 1	/* g */
	:: else
	fi
}

inline publish(d, own, value) {
	assert(own - head[d] < RING);
#if MUTANT == 2
	if
	:: sleeps[d] -> wake = 1
	:: else -> wake = 0
	fi;
#endif
#if MUTANT == 7
	own++;
	store_tail(d, own);
	ENTRY(d, own - 1) = value;
#else
	ENTRY(d, own) = value;
	own++;
	store_tail(d, own);
#endif
#if MUTANT == 2
	if
	:: wake -> bell[d] = 1
	:: else
	fi
#else
	ring_bell(d)
#endif
}

inline block(d) {
#if MUTANT == 5
	bell[d] = 0;
#endif
	atomic { bell[d] -> bell[d] = 0 }
}

inline wait(d, own) {
#if MUTANT == 6
	if
	:: tail[d] == own -> sleeps[d] = 1; block(d)
	:: else
	fi;
#else
#if MUTANT == 4
	late_sleeps[d] = 1;
#else
	sleeps[d] = 1;			/* e */
#endif
#if MUTANT == 1
	block(d);
#else
	if
	:: tail[d] == own -> block(d)	/* f */
	:: else
	fi;
#endif
#endif
#if MUTANT == 4
	!late_sleeps[d];
#endif
	sleeps[d] = 0
}

active proctype client() {
	byte sent;
	bit wake;

#if MUTANT == 8
#define ROOM (sent - head[SQ] < RING)
#else
#define ROOM (sent - reaped < RING)
#endif
	do
	:: reaped == REQUESTS -> break
	:: sent < REQUESTS && ROOM ->
		publish(SQ, sent, sent + 1)
	:: reaped < REQUESTS && tail[CQ] != reaped ->
		assert(ENTRY(CQ, reaped) == reaped + 1);
		head[CQ] = reaped + 1;	/* d */
		reaped++
	:: reaped < REQUESTS && (sent == REQUESTS || !(ROOM)) &&
	   tail[CQ] == reaped ->
		wait(CQ, reaped)
	od
}

active proctype daemon() {
	byte taken;
	byte answered;
	byte request;
	bit wake;

	do
	:: answered == REQUESTS -> break
	:: tail[SQ] != taken ->
		request = ENTRY(SQ, taken);
		taken++;
		head[SQ] = taken;	/* d */
		publish(CQ, answered, request)
	:: answered < REQUESTS && tail[SQ] == taken ->
		wait(SQ, taken)
	od
}

#if MUTANT == 3 || MUTANT == 4
/* The hardware: whatever waits in a store buffer arrives some time. */
active proctype memory() {
end:	do
	:: atomic { late_tail[SQ] != tail[SQ] && MUTANT == 3 ->
		tail[SQ] = late_tail[SQ] }
	:: atomic { late_tail[CQ] != tail[CQ] && MUTANT == 3 ->
		tail[CQ] = late_tail[CQ] }
	:: atomic { late_sleeps[SQ] -> sleeps[SQ] = 1; late_sleeps[SQ] = 0 }
	:: atomic { late_sleeps[CQ] -> sleeps[CQ] = 1; late_sleeps[CQ] = 0 }
	od
}
#endif

ltl all_answered { <> (reaped == REQUESTS) }
