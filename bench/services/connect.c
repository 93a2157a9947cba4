/*
 * How long connect() takes, in nanoseconds of the monotonic clock. In C, because a call out of Node costs as much as what
 * is measured.
 *
 *   connect serve PORT                       accepts on every IPv4 address and closes
 *   connect COUNT ADDRESS PORT [ADDRESS PORT ...]
 *
 * The targets are tried in turn, so that drift of the machine hits all alike; one line per round, microseconds of each.
 * Connections are reset, which leaves no TIME_WAIT behind.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int serve(int port)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&own, sizeof own) || listen(fd, 4096)) {
		perror("listen");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		if (peer >= 0)
			close(peer);
	}
}

static double connect_once(const char *address, int port)
{
	struct sockaddr_in target = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	inet_pton(AF_INET, address, &target.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	double began = now_us();
	int failed = connect(fd, (struct sockaddr *)&target, sizeof target);
	double ended = now_us();
	close(fd);
	if (failed) {
		perror(address);
		exit(1);
	}
	return ended - began;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc < 4 || argc % 2)
		return 2;
	for (int round = atoi(argv[1]); round > 0; round--)
		for (int i = 2; i < argc; i += 2)
			printf("%.2f%c", connect_once(argv[i], atoi(argv[i + 1])), i + 2 < argc ? ' ' : '\n');
	return 0;
}
