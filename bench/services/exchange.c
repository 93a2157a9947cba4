/*
 * How long a request and its answer take on an open TCP connection or one UDP flow, one byte each way, in microseconds.
 *
 *   exchange serve PORT                                    echoes TCP and UDP on every IPv4 address
 *   exchange COUNT tcp|udp ADDRESS PORT [ADDRESS PORT ...]
 *
 * The targets are asked in turn, so that drift of the machine hits all alike; one line per round.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 64

static double now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void without_delay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int bound(int type, int port)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, fd = socket(AF_INET, type, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&own, sizeof own) || (type == SOCK_STREAM && listen(fd, 64))) {
		perror("bind");
		exit(1);
	}
	return fd;
}

static void echo_datagram(int fd)
{
	struct sockaddr_in from;
	socklen_t size = sizeof from;
	char byte;
	if (recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&from, &size) == 1)
		sendto(fd, &byte, 1, 0, (struct sockaddr *)&from, size);
}

/* Whether the connection goes on. */
static int echo_byte(int fd)
{
	char byte;
	return read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1;
}

static int serve(int port)
{
	struct pollfd fds[CONNECTIONS] = { { bound(SOCK_STREAM, port), POLLIN, 0 }, { bound(SOCK_DGRAM, port), POLLIN, 0 } };
	int count = 2;
	puts("ready");
	fflush(stdout);
	for (;;) {
		poll(fds, count, -1);
		for (int i = count - 1; i >= 2; i--) {
			if (!fds[i].revents || echo_byte(fds[i].fd))
				continue;
			close(fds[i].fd);
			fds[i] = fds[--count];
		}
		if (fds[1].revents)
			echo_datagram(fds[1].fd);
		if (fds[0].revents && count < CONNECTIONS) {
			int peer = accept(fds[0].fd, NULL, NULL);
			without_delay(peer);
			fds[count++] = (struct pollfd){ peer, POLLIN, 0 };
		}
	}
}

static int connected(int type, const char *address, int port)
{
	struct sockaddr_in target = { .sin_family = AF_INET, .sin_port = htons(port) };
	inet_pton(AF_INET, address, &target.sin_addr);
	int fd = socket(AF_INET, type, 0);
	if (type == SOCK_STREAM)
		without_delay(fd);
	struct timeval patience = { .tv_sec = 5 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(fd, (struct sockaddr *)&target, sizeof target)) {
		perror(address);
		exit(1);
	}
	return fd;
}

static double exchange(int fd)
{
	char byte = 'x';
	double began = now_us();
	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) {
		perror("exchange");
		exit(1);
	}
	return now_us() - began;
}

int main(int argc, char **argv)
{
	int fds[CONNECTIONS], count = 0;
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc < 5 || argc % 2 == 0 || argc > CONNECTIONS)
		return 2;
	int type = strcmp(argv[2], "udp") ? SOCK_STREAM : SOCK_DGRAM;
	for (int i = 3; i < argc; i += 2)
		fds[count++] = connected(type, argv[i], atoi(argv[i + 1]));
	for (int round = atoi(argv[1]); round > 0; round--)
		for (int i = 0; i < count; i++)
			printf("%.2f%c", exchange(fds[i]), i + 1 < count ? ' ' : '\n');
	return 0;
}
