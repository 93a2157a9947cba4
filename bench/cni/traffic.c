/*
 * One TCP connection, as fast as it goes: what two pods get out of their interfaces.
 *
 *   traffic serve ADDRESS PORT            answers each connection until killed; prints "ready"
 *   traffic rr ADDRESS PORT ROUNDS        1-byte request and response; prints microseconds per round
 *   traffic stream ADDRESS PORT MILLIS    sends without a pause; prints Gbit/s
 *
 * The client's first byte says which: 'r' or 's'.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char block[128 << 10];

static double now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int open_socket(const char *address, const char *port, struct sockaddr_storage *to, socklen_t *length)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
	memset(to, 0, sizeof *to);
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((unsigned short)atoi(port));
		*length = sizeof *v4;
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((unsigned short)atoi(port));
		*length = sizeof *v6;
	} else {
		fprintf(stderr, "no address: %s\n", address);
		exit(2);
	}
	int fd = socket(to->ss_family, SOCK_STREAM, 0), one = 1;
	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	return fd;
}

static void serve(int fd)
{
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int one = 1, client = accept(fd, NULL, NULL);
		if (client < 0)
			die("accept");
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		char how = 0;
		if (read(client, &how, 1) == 1 && how == 's')
			while (read(client, block, sizeof block) > 0)
				;
		else
			for (char byte; read(client, &byte, 1) == 1;)
				if (write(client, &byte, 1) != 1)
					break;
		close(client);
	}
}

static void request_response(int fd, int rounds)
{
	char byte = 'r';
	if (write(fd, &byte, 1) != 1)
		die("write");
	double start = now_us();
	for (int i = 0; i < rounds; i++)
		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			die("round");
	printf("%.3f\n", (now_us() - start) / rounds);
}

static void stream(int fd, int millis)
{
	if (write(fd, "s", 1) != 1)
		die("write");
	double start = now_us(), end = start + millis * 1e3, sent = 0;
	while (now_us() < end) {
		ssize_t count = write(fd, block, sizeof block);
		if (count <= 0)
			die("stream");
		sent += (double)count;
	}
	printf("%.3f\n", sent * 8 / 1e3 / (now_us() - start));
}

int main(int argc, char **argv)
{
	struct sockaddr_storage to;
	socklen_t length;
	if (argc < 4)
		return 2;
	int fd = open_socket(argv[2], argv[3], &to, &length);
	if (strcmp(argv[1], "serve") == 0) {
		if (bind(fd, (struct sockaddr *)&to, length) || listen(fd, 8))
			die("listen");
		serve(fd);
	}
	if (connect(fd, (struct sockaddr *)&to, length))
		die("connect");
	if (strcmp(argv[1], "rr") == 0)
		request_response(fd, atoi(argv[4]));
	else
		stream(fd, atoi(argv[4]));
	return 0;
}
