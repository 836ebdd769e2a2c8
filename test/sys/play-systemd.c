/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays systemd's part for one service of Type=notify, Restart=always,
 * NotifyAccess=main, with a descriptor store, as service.c of systemd 252 does:
 *
 * - Messages of the main process count, also those that it sent before it died.
 * - Of a descriptor that is the same open file as one in the store, nothing is
 *   stored.  What finds no room is closed, and nobody is told.
 * - Without FDPOLL=0 a descriptor goes when it hangs up.
 * - BARRIER=1 closes what came with it, after all that came before.
 * - The store is handed over at each start, what came last first, and lost when
 *   the service has been stopped.
 *
 *	play-systemd [OPTION OF SYNAPSED]...
 */
#include "test/sys/play-systemd.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/base/base.h"

#define STORE_MAX  8192u
#define ARGS_MAX   48
#define TEXT_BYTES 512u
#define FDS_MAX	   16u
#define FIRST_FD   3 /* SD_LISTEN_FDS_START */

/**
 * struct stored - a descriptor in the store.
 * @fd:		the descriptor.
 * @watched:	it goes when it hangs up.
 * @name:	FDNAME=
 */
struct stored {
	int fd;
	bool watched;
	char name[256];
};

/**
 * struct manager - what systemd would know.
 * @play:	shared with the test.
 * @notify_fd:	NOTIFY_SOCKET ...
 * @notify:	... and its name.
 * @signal_fd:	SIGTERM.
 * @pid:	the main process.
 * @pid_fd:	it ends.
 * @ready:	one has been.
 * @stopping:	asked to stop.
 * @stored:	the store ...
 * @nr:		... in use.
 */
struct manager {
	struct play *play;
	int notify_fd;
	char notify[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int signal_fd;
	pid_t pid;
	int pid_fd;
	bool ready;
	bool stopping;
	struct stored stored[STORE_MAX];
	size_t nr;
};

/**
 * struct message - one that came.
 * @text:	lines.
 * @pid:	of the sender.
 * @fd:		what came with it; -1: taken.
 * @nr_fds:	their number.
 */
struct message {
	char text[TEXT_BYTES];
	pid_t pid;
	int fd[FDS_MAX];
	size_t nr_fds;
};

static void die(const char *what)
{
	perror(what);
	exit(99);
}

/* ---- the store ---------------------------------------------------------- */

static void store_forget(struct manager *m, size_t i)
{
	syn_close(m->stored[i].fd);
	memmove(&m->stored[i], &m->stored[i + 1],
		(m->nr - i - 1) * sizeof(m->stored[0]));
	m->play->nr_stored = --m->nr;
}

static bool store_has(const struct manager *m, int fd)
{
	const pid_t self = getpid();

	for (size_t i = 0; i < m->nr; i++)
		if (syscall(SYS_kcmp, self, self, KCMP_FILE, m->stored[i].fd,
			    fd) == 0)
			return true;
	return false;
}

static void store_add(struct manager *m, struct message *msg, const char *name,
		      bool watched)
{
	for (size_t i = 0; i < msg->nr_fds; i++) {
		struct stored *stored;

		if (m->nr >= m->play->store_max || m->nr >= STORE_MAX) {
			m->play->nr_full++;
			return;
		}
		if (store_has(m, msg->fd[i]))
			continue;
		memmove(&m->stored[1], &m->stored[0],
			m->nr * sizeof(m->stored[0]));
		stored = &m->stored[0];
		stored->fd = syn_steal_fd(&msg->fd[i]);
		stored->watched = watched;
		(void)snprintf(stored->name, sizeof(stored->name), "%s", name);
		m->play->nr_stored = ++m->nr;
	}
}

static void store_remove(struct manager *m, const char *name)
{
	for (size_t i = m->nr; i-- > 0;)
		if (strcmp(m->stored[i].name, name) == 0)
			store_forget(m, i);
}

static void store_hangups(struct manager *m)
{
	for (size_t i = m->nr; i-- > 0;) {
		struct pollfd fd = { .fd = m->stored[i].fd };

		if (m->stored[i].watched && poll(&fd, 1, 0) > 0)
			store_forget(m, i);
	}
}

/* ---- messages ----------------------------------------------------------- */

/* The line that begins with @key, behind it; NULL: there is none. */
static const char *line_of(const struct message *msg, const char *key,
			   char *buf)
{
	const char *at = msg->text;

	while (*at) {
		size_t len = strcspn(at, "\n");

		if (strncmp(at, key, strlen(key)) == 0) {
			(void)snprintf(buf, TEXT_BYTES, "%.*s",
				       (int)(len - strlen(key)),
				       at + strlen(key));
			return buf;
		}
		at += len + (at[len] == '\n');
	}
	return NULL;
}

static void message_obey(struct manager *m, struct message *msg)
{
	char buf[TEXT_BYTES];
	char name[TEXT_BYTES];

	if (line_of(msg, "READY=1", buf))
		m->ready = true;
	/* 1 to 255 printable characters, and no colon. */
	if (!line_of(msg, "FDNAME=", name) || !*name || strlen(name) > 255 ||
	    strchr(name, ':'))
		(void)snprintf(name, sizeof(name), "stored");
	if (line_of(msg, "FDSTORE=1", buf))
		store_add(m, msg, name, !line_of(msg, "FDPOLL=0", buf));
	else if (line_of(msg, "FDSTOREREMOVE=1", buf))
		store_remove(m, name);
}

static bool message_receive(struct manager *m, struct message *msg)
{
	struct iovec iov = { .iov_base = msg->text,
			     .iov_len = sizeof(msg->text) - 1 };
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred)) +
			   CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr hdr = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct ucred cred;
	ssize_t n;

	*msg = (struct message){ 0 };
	n = recvmsg(m->notify_fd, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&hdr); c;
	     c = CMSG_NXTHDR(&hdr, c)) {
		if (c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			msg->pid = cred.pid;
		} else if (c->cmsg_type == SCM_RIGHTS) {
			msg->nr_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(msg->fd, CMSG_DATA(c),
			       msg->nr_fds * sizeof(int));
		}
	}
	return true;
}

/* What a process has sent outlives it. */
static void worker_may_die(struct manager *m)
{
	struct pollfd gone = { .fd = m->pid_fd, .events = POLLIN };
	struct play *play = m->play;

	if (++play->nr_messages != play->kill_at)
		return;
	(void)kill(m->pid, SIGKILL);
	while (poll(&gone, 1, -1) != 1)
		;
	play->kill_at = 0;
}

static void messages_read(struct manager *m)
{
	struct message msg;

	while (message_receive(m, &msg)) {
		if (msg.pid == m->pid) {
			worker_may_die(m);
			message_obey(m, &msg);
		}
		for (size_t i = 0; i < msg.nr_fds; i++)
			syn_close(msg.fd[i]);
	}
}

/* ---- the main process --------------------------------------------------- */

static void env_number(const char *name, unsigned long value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lu", value);
	(void)setenv(name, text, 1);
}

/* In the child: the store from descriptor 3 on. */
static void store_hand_over(const struct manager *m)
{
	static char names[STORE_MAX * 64];
	int fd[STORE_MAX];
	size_t at = 0;

	for (size_t i = 0; i < m->nr; i++)
		fd[i] = fcntl(m->stored[i].fd, F_DUPFD_CLOEXEC,
			      FIRST_FD + (int)m->nr);
	for (size_t i = 0; i < m->nr; i++) {
		if (dup2(fd[i], FIRST_FD + (int)i) < 0)
			_exit(98);
		at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s",
				       i ? ":" : "", m->stored[i].name);
	}
	env_number("LISTEN_PID", (unsigned long)getpid());
	env_number("LISTEN_FDS", m->nr);
	(void)setenv("LISTEN_FDNAMES", names, 1);
}

/* It is killed when it makes its server, having taken what was kept. */
static void worker_doom(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_create1, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {
		.len = syn_array_size(filter),
		.filter = filter,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(97);
}

static void worker_exec(const struct manager *m, char **argv)
{
	const char *program = getenv(PLAY_PROGRAM_ENV);
	char *args[ARGS_MAX] = { argv[0], (char[]){ "--systemd" } };
	sigset_t none;

	for (int i = 1; argv[i] && i < ARGS_MAX - 2; i++)
		args[i + 1] = argv[i];
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setenv("NOTIFY_SOCKET", m->notify, 1);
	if (m->nr)
		store_hand_over(m);
	if (m->play->nr_doomed) {
		m->play->nr_doomed--;
		worker_doom();
	}
	(void)execv(program ? program : TEST_SYNAPSED, args);
	_exit(127);
}

static void worker_start(struct manager *m, char **argv)
{
	m->pid = fork();
	if (m->pid < 0)
		die("fork");
	if (m->pid == 0)
		worker_exec(m, argv);
	m->pid_fd = (int)syscall(SYS_pidfd_open, m->pid, 0);
	if (m->pid_fd < 0)
		die("pidfd_open");
}

/* Until the main process is gone; its status. */
static int worker_serve(struct manager *m)
{
	struct signalfd_siginfo info;
	int status = 0;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = m->notify_fd, .events = POLLIN },
			{ .fd = m->pid_fd, .events = POLLIN },
			{ .fd = m->signal_fd, .events = POLLIN },
		};

		(void)poll(fds, syn_array_size(fds), 20);
		messages_read(m);
		store_hangups(m);
		if (fds[1].revents)
			break;
		if (fds[2].revents &&
		    read(m->signal_fd, &info, sizeof(info)) > 0) {
			m->stopping = true;
			(void)kill(m->pid, SIGTERM);
		}
	}
	(void)waitpid(m->pid, &status, 0);
	m->pid_fd = syn_close(m->pid_fd);
	return status;
}

/* ---- start -------------------------------------------------------------- */

static struct play *play_map(void)
{
	static struct play own = { .store_max = STORE_MAX };
	const char *path = getenv(PLAY_ENV);
	void *map;
	int fd;

	if (!path)
		return &own;
	fd = open(path, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, sizeof(own), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   0);
	if (map == MAP_FAILED)
		die(path);
	syn_close(fd);
	return map;
}

/* An abstract name that the kernel chooses. */
static void notify_open(struct manager *m)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa_family_t);
	const int one = 1;

	m->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(m->notify_fd, (const void *)&addr, len) < 0 ||
	    setsockopt(m->notify_fd, SOL_SOCKET, SO_PASSCRED, &one,
		       sizeof(one)) < 0)
		die("notify socket");
	len = sizeof(addr);
	if (getsockname(m->notify_fd, (void *)&addr, &len) < 0)
		die("notify socket");
	(void)snprintf(m->notify, sizeof(m->notify), "@%s", addr.sun_path + 1);
}

static void signals_open(struct manager *m)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (m->signal_fd < 0)
		die("signalfd");
}

int main(int argc, char **argv)
{
	static struct manager m;
	int status;

	(void)argc;
	m.play = play_map();
	notify_open(&m);
	signals_open(&m);
	do {
		worker_start(&m, argv);
		status = worker_serve(&m);
		(void)usleep((useconds_t)m.play->restart_ms * 1000);
	} while (!m.stopping && m.ready);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}
