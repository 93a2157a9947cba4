/*
 * Executes a CNI plugin as a runtime does (fork, exec, wait) and prints how long each call took, in microseconds. In C,
 * because starting a process costs Node more than the plugin does.
 *
 *   execute PLUGIN CONFIG NETNS_FOLDER COMMAND COUNT one|all
 *
 * "one": one after the other, a line each. "all": all at once, one line for the whole.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static double now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static pid_t begin(char **argv, int i)
{
	char command[64], container[64], netns[512], path[512];
	snprintf(command, sizeof command, "CNI_COMMAND=%s", argv[4]);
	snprintf(container, sizeof container, "CNI_CONTAINERID=bench%d", i);
	snprintf(netns, sizeof netns, "CNI_NETNS=%s/%d", argv[3], i);
	snprintf(path, sizeof path, "CNI_PATH=%.*s", (int)(strrchr(argv[1], '/') - argv[1]), argv[1]);
	char *environment[] = { command, container, netns, path, "CNI_IFNAME=eth0",
				"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	char *arguments[] = { argv[1], NULL };
	posix_spawn_file_actions_t files;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, argv[2], O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	pid_t pid;
	int error = posix_spawn(&pid, argv[1], &files, NULL, arguments, environment);
	posix_spawn_file_actions_destroy(&files);
	if (error) {
		fprintf(stderr, "cannot execute %s: %s\n", argv[1], strerror(error));
		exit(1);
	}
	return pid;
}

static void finish(pid_t pid, char **argv)
{
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "%s %s failed\n", argv[1], argv[4]);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc != 7)
		return 2;
	int count = atoi(argv[5]);
	double start = now_us();
	if (strcmp(argv[6], "one") == 0) {
		for (int i = 0; i < count; i++) {
			start = now_us();
			finish(begin(argv, i), argv);
			printf("%.0f\n", now_us() - start);
		}
		return 0;
	}
	pid_t *pids = calloc((size_t)count, sizeof *pids);
	for (int i = 0; i < count; i++)
		pids[i] = begin(argv, i);
	for (int i = 0; i < count; i++)
		finish(pids[i], argv);
	printf("%.0f\n", now_us() - start);
	return 0;
}
