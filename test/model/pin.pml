/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pin against reclaim: one frame, a page in it that CLIENTS clients lease,
 * and a daemon that wants the frame for another page.
 *
 * A client pins with one atomic and one load, gives work to its streams and
 * unpins without waiting for them; nothing it does is a message.  A stream
 * runs its work at any later time, and may go on after the client's threads
 * have died, until the kernel reports the process's exit.  One client, no
 * matter which, may be killed at any step.
 *
 * The daemon: mark the entry of every lessee LEAVING; read every count; if one
 * is not zero, put the entries back; else note `issued` of every timeline, wait
 * until each `done` has reached it or its process has exited, reuse the frame.
 * What the frame holds then is another generation, which the clients may get.
 *
 * Checked: no thread and no stream touches the frame with a generation that it
 * does not hold (any more); a client that ends leaves no pin; nobody blocks
 * for ever; the daemon ends under weak fairness.
 *
 * A seq_cst access is one step.  Mutants 7 and 8 weaken a store to one that
 * waits in a store buffer while its owner goes on to the next load.
 *
 *	1  the daemon reads the counts before it marks the entries
 *	2  the daemon reads the count of the first lessee only
 *	3  the daemon notes the first timeline of each client only
 *	4  the daemon notes `issued` before it reads the counts
 *	5  unpin decrements before it publishes `issued`
 *	6  the client reads the entry before it increments
 *	7  the increment may pass the load of the entry
 *	8  the mark may pass the loads of the counts
 *	9  a client whose socket closed counts as exited
 *	10 the daemon waits for `done` of a client that has exited
 *	11 the client does not compare generations
 *	12 a pin that found the page leaving is not undone
 *	13 the daemon puts back the first lessee's entry only
 *	14 the daemon notes the timelines of the first lessee only
 *	15 a stream signals `done` before its last access
 */
#ifndef MUTANT
#define MUTANT 0
#endif

#define CLIENTS 2
#define STREAMS 3		/* client 0 has two, client 1 has one */
#define ROUNDS(c) (2 - (c))	/* pins that a client tries */
#ifdef LIVENESS
#define GENERATIONS 1		/* times that the frame is reused */
#else
#define GENERATIONS 2
#endif

#define OWNER(i) ((i) / 2)	/* of stream 0, 1: client 0; of 2: client 1 */

/* An entry is one word: generation and state. */
#define RESIDENT 0
#define LEAVING 1
#define ABSENT 2
#define PTE(generation, state) ((generation) * 4 + (state))
#define GENERATION(pte) ((pte) / 4)
#define STATE(pte) ((pte) % 4)

byte frame;			/* the generation whose bytes are in it */
byte pte[CLIENTS];		/* the daemon writes */
byte pin[CLIENTS];		/* the client writes, as what follows */
byte issued[STREAMS];
byte done[STREAMS];
byte queued[STREAMS];		/* what the stream was given */
byte holds[6];			/* generation of each work queued: 2 a stream */
bit dead[CLIENTS];		/* its threads stopped; its socket closed */
bit exited[CLIENTS];		/* its streams stopped too; the pidfd says so */
bit over;			/* the daemon has ended */
bit late_pin[CLIENTS];		/* store buffers */
bit late_mark[CLIENTS];

#define WORK(i, n) holds[(i) * 2 + (n) % 2]

inline launch(i) {
	atomic { WORK(i, queued[i]) = want; queued[i]++ }
}

inline issue(i) {
#if MUTANT != 5
	issued[i]++;
#endif
	launch(i)
}

inline increment(c) {
#if MUTANT == 7
	late_pin[c] = 1
#else
	pin[c]++
#endif
}

inline decrement(c) {
#if MUTANT == 7
	!late_pin[c];
#endif
	pin[c]--
}

/* A thread reads or writes the frame; so may a stream, later. */
inline use_frame(c) {
	if
	:: assert(frame == want)
	:: c == 0 -> issue(0); used = 0
	:: c == 0 -> issue(1); used = 1
	:: c == 1 -> issue(2); used = 2
	fi;
	decrement(c);
#if MUTANT == 5
	if
	:: used < STREAMS -> issued[used]++
	:: else
	fi;
#endif
	used = STREAMS
}

#if MUTANT == 11
#define MAY_USE(word) (STATE(word) == RESIDENT)
#else
#define MAY_USE(word) (word == PTE(want, RESIDENT))
#endif

#if MUTANT == 6
#define READ_ENTRY word
#else
#define READ_ENTRY pte[c]
#endif

proctype client(byte c) {
	byte want;
	byte round;
	byte used = STREAMS;
	byte word;

	{
		do
		:: round == ROUNDS(c) -> break
		:: round < ROUNDS(c) ->
#if MUTANT == 6
			word = pte[c];
#endif
			increment(c);
			if
			:: MAY_USE(READ_ENTRY) -> use_frame(c)
			:: else ->
#if MUTANT != 12
				decrement(c);
#endif
				/* A fault: the daemon answers when it can. */
				if
				:: atomic { STATE(pte[c]) == RESIDENT ->
					want = GENERATION(pte[c]) }
				:: over && STATE(pte[c]) == ABSENT -> break
				fi
			fi;
			round++
		od;
		assert(pin[c] == 0)
	} unless { dead[c] }
}

proctype stream(byte i) {
	{
end:		do
		:: atomic { done[i] < queued[i] ->
#if MUTANT == 15
			done[i]++ }
			assert(frame == WORK(i, done[i] - 1))
#else
			assert(frame == WORK(i, done[i]));
			WORK(i, done[i]) = 0;
			done[i]++ }
#endif
		od
	} unless { exited[OWNER(i)] }
}

inline kill(c) {
	dead[c] = 1;
	exited[c] = 1
}

/* At any time, or never: a kill, then the exit of what was killed. */
proctype kernel() {
end:	if
	:: kill(0)
	:: kill(1)
	fi
}

#if MUTANT == 9
#define GONE(c) dead[c]
#else
#define GONE(c) exited[c]
#endif

inline mark_all() {
#if MUTANT == 8
	late_mark[0] = 1;
	late_mark[1] = 1
#else
	pte[0] = PTE(frame, LEAVING);
	pte[1] = PTE(frame, LEAVING)
#endif
}

inline look_at_counts() {
	busy = pin[0] > 0 && !GONE(0);
#if MUTANT != 2
	busy = busy || (pin[1] > 0 && !GONE(1))
#endif
}

inline note_timelines() {
	note[0] = issued[0];
#if MUTANT != 3
	note[1] = issued[1];
#endif
#if MUTANT != 14
	note[2] = issued[2];
#endif
}

#if MUTANT == 10
#define DRAINED(i) (done[i] >= note[i])
#else
#define DRAINED(i) (done[i] >= note[i] || GONE(OWNER(i)))
#endif

inline marks_arrived() {
#if MUTANT == 8
	!late_mark[0] && !late_mark[1];
#endif
	skip
}

active proctype daemon() {
	byte note[STREAMS];
	bool busy;

	do
	:: frame == GENERATIONS -> break
	:: frame < GENERATIONS ->
#if MUTANT == 4
		note_timelines();
#endif
#if MUTANT == 1
		look_at_counts();
		mark_all();
#else
		mark_all();
		look_at_counts();
#endif
		marks_arrived();
		if
		:: busy ->
			busy = false;
			pte[0] = PTE(frame, RESIDENT);
#if MUTANT != 13
			pte[1] = PTE(frame, RESIDENT);
#endif
			if
			:: true		/* try again */
			:: break	/* somebody else gave room */
			fi
		:: !busy ->
			pte[0] = PTE(frame, ABSENT);
			pte[1] = PTE(frame, ABSENT);
#if MUTANT != 4
			note_timelines();
#endif
			DRAINED(0);
			DRAINED(1);
			DRAINED(2);
			frame++;
			pte[0] = PTE(frame, RESIDENT);
			pte[1] = PTE(frame, RESIDENT);
			d_step { note[0] = 0; note[1] = 0; note[2] = 0 }
		fi
	od;
	over = 1
}

#if MUTANT == 7 || MUTANT == 8
/* The hardware: whatever waits in a store buffer arrives some time. */
active proctype memory() {
end:	do
	:: atomic { late_pin[0] -> pin[0]++; late_pin[0] = 0 }
	:: atomic { late_pin[1] -> pin[1]++; late_pin[1] = 0 }
	:: atomic { late_mark[0] ->
		pte[0] = PTE(frame, LEAVING); late_mark[0] = 0 }
	:: atomic { late_mark[1] ->
		pte[1] = PTE(frame, LEAVING); late_mark[1] = 0 }
	od
}
#endif

init {
	atomic {
		run client(0);
		run client(1);
		run stream(0);
		run stream(1);
		run stream(2);
		run kernel()
	}
}

ltl daemon_ends { <> over }
