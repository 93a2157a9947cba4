/*
 * The first process of every pod sandbox: it holds the namespaces, reaps orphans where the pod shares its process
 * namespace, and ends on SIGTERM or SIGINT. Built static without libc start-up needs beyond the kernel's.
 */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) { _exit(signal == SIGTERM || signal == SIGINT ? 0 : 1); }
static void reap(int signal) {
  (void)signal;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  struct sigaction on_end = {.sa_handler = end};
  struct sigaction on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
  if (sigaction(SIGINT, &on_end, NULL) < 0 || sigaction(SIGTERM, &on_end, NULL) < 0) return 2;
  if (sigaction(SIGCHLD, &on_child, NULL) < 0) return 3;
  for (;;) pause();
}
