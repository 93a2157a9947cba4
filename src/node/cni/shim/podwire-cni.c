/*
 * podwire's CNI plugin: what the container runtime executes. It decides nothing.
 *
 *   runtime --exec--> podwire-cni --Unix socket--> agent       (ADD, DEL, CHECK, GC, STATUS)
 *             env, stdin            env + stdin, and the number of an open descriptor of CNI_NETNS
 *   runtime <-stdout- podwire-cni <--------------- exit code + JSON
 *
 * The runtime may live in another mount namespace than the agent, where CNI_NETNS means nothing. Therefore the shim
 * opens it and holds it open while it waits; the agent opens /proc/<shim's pid>/fd/<number>, which works across mount
 * namespaces and needs no ancillary data.
 *
 * VERSION is answered without the agent. Under the name "loopback" (a hard link) it is the loopback plugin: it brings
 * lo up, without the agent.
 *
 * The request: "podwire-cni/1 <bytes>\n", then as many bytes: NUL-terminated KEY=VALUE pairs (pid, netns_fd, and every
 * CNI_* variable), an empty string, the network configuration as it came on stdin.
 * The answer: "<exit code> <bytes>\n", then as many bytes of JSON. (src/node/cni/protocol.ts)
 *
 * Build: gcc -O2 -static -s -o podwire-cni podwire-cni.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Error codes of the CNI specification 1.1.0. */
enum { CNI_ENVIRONMENT = 4, CNI_IO = 5, CNI_DECODE = 6, CNI_CONFIG = 7, CNI_TRY_AGAIN = 11 };

#define SUPPORTED_VERSIONS "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define NEWEST_VERSION "1.1.0"
/* The agent takes no more. */
#define MAX_CONFIG (4u << 20)
#define MAX_ANSWER (4u << 20)
/* How long an agent that restarts is waited for, unless the configuration's "connectTimeoutMs" says otherwise. */
#define CONNECT_TIMEOUT_MS 5000
#define CONNECT_RETRY_MS 20
/* How long the agent may work on a request. */
#define ANSWER_TIMEOUT_S 90

extern char **environ;

struct buffer {
	char *bytes;
	size_t length, capacity;
};

/* The configuration, and what the shim itself needs of it. */
static struct buffer config;
static char version[32] = NEWEST_VERSION;

/* ---- output ---- */

static void print_json_string(const char *text)
{
	putchar('"');
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			printf("\\%c", *c);
		else if (*c < 0x20)
			printf("\\u%04x", *c);
		else
			putchar(*c);
	}
	putchar('"');
}

/* Prints the specification's error object and ends the process. */
static void __attribute__((noreturn, format(printf, 3, 4))) fail(int code, const char *msg, const char *format, ...)
{
	char details[1024];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(details, sizeof details, format, arguments);
	va_end(arguments);
	printf("{\"cniVersion\":");
	print_json_string(version);
	printf(",\"code\":%d,\"msg\":", code);
	print_json_string(msg);
	printf(",\"details\":");
	print_json_string(details);
	printf("}\n");
	fflush(stdout);
	exit(1);
}

/* ---- memory and files ---- */

static void append(struct buffer *to, const void *bytes, size_t length)
{
	if (to->length + length > to->capacity) {
		to->capacity = (to->length + length) * 2 + 4096;
		to->bytes = realloc(to->bytes, to->capacity);
		if (!to->bytes)
			fail(CNI_IO, "out of memory", "%zu bytes", to->capacity);
	}
	memcpy(to->bytes + to->length, bytes, length);
	to->length += length;
}

static void read_config(void)
{
	char chunk[16384];
	for (;;) {
		ssize_t count = read(0, chunk, sizeof chunk);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			fail(CNI_IO, "cannot read the network configuration", "%s", strerror(errno));
		if (count == 0)
			break;
		append(&config, chunk, (size_t)count);
		if (config.length > MAX_CONFIG)
			fail(CNI_CONFIG, "the network configuration is too large", "more than %u bytes", MAX_CONFIG);
	}
	append(&config, "", 1);
	config.length--;
}

/* ---- just enough JSON: the members of the outermost object ---- */

static const char *skip_space(const char *c)
{
	while (*c == ' ' || *c == '\t' || *c == '\n' || *c == '\r')
		c++;
	return c;
}

/* From an opening quote to behind the closing one; NULL when there is none. */
static const char *skip_string(const char *c)
{
	for (c++; *c && *c != '"'; c++)
		if (*c == '\\' && !*++c)
			return NULL;
	return *c ? c + 1 : NULL;
}

/* Behind a value of any kind. Nesting is counted, not recursed: no input exhausts the stack. */
static const char *skip_value(const char *c)
{
	size_t depth = 0;
	do {
		c = skip_space(c);
		if (*c == '"') {
			if (!(c = skip_string(c)))
				return NULL;
		} else if (*c == '{' || *c == '[') {
			depth++;
			c++;
			continue;
		} else if (*c == '}' || *c == ']') {
			if (depth == 0)
				return NULL;
			depth--;
			c++;
		} else if (*c == ',' || *c == ':') {
			if (depth == 0)
				return NULL;
			c++;
			continue;
		} else if (*c) {
			while (*c && !strchr(",:{}[]\" \t\r\n", *c))
				c++;
		} else {
			return NULL;
		}
	} while (depth > 0);
	return c;
}

/* The text of a member's value and its length; NULL when the configuration has no such member. */
static const char *member(const char *name, size_t *length)
{
	const char *c = skip_space(config.bytes);
	if (*c != '{')
		return NULL;
	c = skip_space(c + 1);
	while (*c == '"') {
		const char *key = c + 1, *end = skip_string(c);
		if (!end)
			return NULL;
		size_t key_length = (size_t)(end - 1 - key);
		c = skip_space(end);
		if (*c != ':')
			return NULL;
		const char *value = skip_space(c + 1);
		if (!(c = skip_value(value)))
			return NULL;
		if (key_length == strlen(name) && memcmp(key, name, key_length) == 0) {
			*length = (size_t)(c - value);
			return value;
		}
		c = skip_space(c);
		if (*c != ',')
			return NULL;
		c = skip_space(c + 1);
	}
	return NULL;
}

/* Copies a text member without escapes; 0 when absent, not a text, escaped (other than "\/") or too long. */
static int text_member(const char *name, char *into, size_t size)
{
	size_t length, used = 0;
	const char *value = member(name, &length);
	if (!value || *value != '"')
		return 0;
	for (const char *c = value + 1; c < value + length - 1; c++) {
		if (*c == '\\' && *++c != '/')
			return 0;
		if (used + 1 >= size)
			return 0;
		into[used++] = *c;
	}
	into[used] = 0;
	return 1;
}

static long number_member(const char *name, long otherwise)
{
	size_t length;
	const char *value = member(name, &length);
	if (!value || *value < '0' || *value > '9')
		return otherwise;
	return strtol(value, NULL, 10);
}

/* ---- the agent ---- */

static long now_ms(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000L + time.tv_nsec / 1000000L;
}

static int connect_agent(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof address.sun_path)
		fail(CNI_CONFIG, "the path of the agent's socket is too long", "%s", path);
	strcpy(address.sun_path, path);
	long timeout = number_member("connectTimeoutMs", CONNECT_TIMEOUT_MS);
	long deadline = now_ms() + (timeout > 60000 ? 60000 : timeout);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			fail(CNI_IO, "cannot open a socket", "%s", strerror(errno));
		if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
			return fd;
		int error = errno;
		close(fd);
		if (error != ENOENT && error != ECONNREFUSED && error != EAGAIN && error != EINTR)
			fail(CNI_TRY_AGAIN, "cannot reach the podwire agent", "%s: %s", path, strerror(error));
		if (now_ms() >= deadline)
			fail(CNI_TRY_AGAIN, "the podwire agent is not running", "%s: %s", path, strerror(error));
		usleep(CONNECT_RETRY_MS * 1000);
	}
}

static void add_pair(struct buffer *request, const char *format, ...)
{
	char text[64];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	append(request, text, (size_t)length + 1);
}

/* An open descriptor of CNI_NETNS, or -1: DEL must work when the namespace is gone. */
static int open_netns(void)
{
	const char *path = getenv("CNI_NETNS");
	return path && *path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

static void send_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = send(fd, bytes, length, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		/* An agent that refuses a request answers without reading all of it: the answer says more than EPIPE. */
		if (count < 0)
			return;
		bytes += count;
		length -= (size_t)count;
	}
}

static void receive_all(int fd, struct buffer *answer)
{
	char chunk[16384];
	struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	for (;;) {
		ssize_t count = recv(fd, chunk, sizeof chunk, 0);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			fail(CNI_TRY_AGAIN, "the podwire agent does not answer", "waited %d s", ANSWER_TIMEOUT_S);
		if (count <= 0)
			break;
		append(answer, chunk, (size_t)count);
		if (answer->length > MAX_ANSWER)
			break;
	}
	append(answer, "", 1);
	answer->length--;
}

/* Sends everything to the agent, prints what it says and returns its exit code. */
static int ask_agent(void)
{
	char path[512];
	if (!text_member("socket", path, sizeof path))
		fail(CNI_CONFIG, "the network configuration names no agent", "\"socket\" must be the path of its Unix socket");
	struct buffer body = { 0 }, answer = { 0 };
	int netns = open_netns();
	add_pair(&body, "pid=%d", (int)getpid());
	if (netns >= 0)
		add_pair(&body, "netns_fd=%d", netns);
	for (char **variable = environ; *variable; variable++)
		if (strncmp(*variable, "CNI_", 4) == 0)
			append(&body, *variable, strlen(*variable) + 1);
	append(&body, "", 1);
	append(&body, config.bytes, config.length);

	int fd = connect_agent(path);
	char head[64];
	int head_length = snprintf(head, sizeof head, "podwire-cni/1 %zu\n", body.length);
	send_all(fd, head, (size_t)head_length);
	send_all(fd, body.bytes, body.length);
	receive_all(fd, &answer);

	char *end = memchr(answer.bytes, '\n', answer.length);
	unsigned code;
	size_t length;
	if (!end || sscanf(answer.bytes, "%u %zu\n", &code, &length) != 2 ||
	    length != answer.length - (size_t)(end + 1 - answer.bytes))
		fail(CNI_TRY_AGAIN, "the podwire agent went away while it worked", "%s", path);
	fwrite(end + 1, 1, length, stdout);
	return fflush(stdout) == 0 ? (int)(code & 0xff) : 1;
}

/* ---- loopback ---- */

static void loopback_flags(short set, short *get)
{
	const char *path = getenv("CNI_NETNS");
	if (!path || !*path)
		fail(CNI_ENVIRONMENT, "CNI_NETNS is missing", "the loopback plugin needs a network namespace");
	int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0 || setns(netns, CLONE_NEWNET) != 0)
		fail(CNI_ENVIRONMENT, "cannot enter CNI_NETNS", "%s: %s", path, strerror(errno));
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) != 0)
		fail(CNI_IO, "cannot read the state of lo", "%s", strerror(errno));
	*get = request.ifr_flags;
	if ((request.ifr_flags & set) == set)
		return;
	request.ifr_flags |= set;
	if (ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		fail(CNI_IO, "cannot bring up lo", "%s", strerror(errno));
}

/* What ADD made, or what the plugin before this one did. */
static void print_loopback_result(void)
{
	size_t length;
	const char *previous = member("prevResult", &length);
	if (previous && *previous == '{') {
		printf("%.*s\n", (int)length, previous);
		return;
	}
	/* Results before 1.0.0 name each address's family. */
	int old = version[0] == '0';
	printf("{\"cniVersion\":");
	print_json_string(version);
	printf(",\"interfaces\":[{\"name\":\"lo\",\"mac\":\"00:00:00:00:00:00\",\"sandbox\":");
	print_json_string(getenv("CNI_NETNS"));
	printf("}],\"ips\":[{%s\"interface\":0,\"address\":\"127.0.0.1/8\"},{%s\"interface\":0,\"address\":\"::1/128\"}]}\n",
	       old ? "\"version\":\"4\"," : "", old ? "\"version\":\"6\"," : "");
}

static int run_loopback(const char *command)
{
	short flags;
	if (strcmp(command, "ADD") == 0) {
		loopback_flags(IFF_UP, &flags);
		print_loopback_result();
	} else if (strcmp(command, "CHECK") == 0) {
		loopback_flags(0, &flags);
		if (!(flags & IFF_UP))
			fail(CNI_IO, "lo is down", "%s", getenv("CNI_NETNS"));
	} else if (strcmp(command, "DEL") != 0 && strcmp(command, "GC") != 0 && strcmp(command, "STATUS") != 0) {
		fail(CNI_ENVIRONMENT, "CNI_COMMAND is unknown", "%s", command);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- */

static void print_versions(void)
{
	printf("{\"cniVersion\":");
	print_json_string(version);
	printf(",\"supportedVersions\":[" SUPPORTED_VERSIONS "]}\n");
}

int main(int argc, char **argv)
{
	const char *command = getenv("CNI_COMMAND");
	if (!command) {
		fprintf(stderr, "podwire's CNI plugin: executed by a container runtime, not by hand.\n"
				"Protocol versions: %s\n", SUPPORTED_VERSIONS);
		command = "";
	}
	read_config();
	if (strcmp(command, "VERSION") != 0) {
		size_t length;
		if (!*command)
			fail(CNI_ENVIRONMENT, "CNI_COMMAND is missing", "it must be ADD, DEL, CHECK, GC, STATUS or VERSION");
		const char *end = skip_value(config.bytes);
		if (*skip_space(config.bytes) != '{' || !end || *skip_space(end))
			fail(CNI_DECODE, "the network configuration is no JSON object", "%zu bytes on stdin", config.length);
		if (member("cniVersion", &length) && !text_member("cniVersion", version, sizeof version))
			fail(CNI_CONFIG, "cniVersion is no version", "%.*s", (int)(length > 64 ? 64 : length), member("cniVersion", &length));
	} else {
		text_member("cniVersion", version, sizeof version);
		print_versions();
		return 0;
	}
	const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;
	name = name ? name + 1 : argc > 0 ? argv[0] : "";
	return strcmp(name, "loopback") == 0 ? run_loopback(command) : ask_agent();
}
