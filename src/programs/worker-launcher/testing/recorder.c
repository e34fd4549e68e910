/* Writes into the file "record" what it was executed with, and ends with 3. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    char descriptors[64] = "";
    for (int fd = 0, at = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) != -1 && at < 50)
            at += snprintf(descriptors + at, sizeof descriptors - at, " %d", fd);
    mode_t mask = umask(022);
    struct sigaction action;
    sigaction(SIGPIPE, 0, &action);
    FILE *out = fopen("record", "w");
    if (!out) return 4;
    for (int i = 0; i < argc; i++) fprintf(out, "argument %s\n", argv[i]);
    uid_t uid[3];
    gid_t gid[3], groups[64];
    getresuid(uid, uid + 1, uid + 2);
    getresgid(gid, gid + 1, gid + 2);
    fprintf(out, "uids %d %d %d\ngids %d %d %d\ngroups", uid[0], uid[1], uid[2], gid[0], gid[1], gid[2]);
    int count = getgroups(64, groups);
    for (int i = 0; i < count; i++) fprintf(out, " %d", groups[i]);
    fprintf(out, "\ndescriptors%s\numask %03o\n", descriptors, mask);
    fprintf(out, "sigpipe %s\n", action.sa_handler == SIG_DFL ? "default" : "other");
    fprintf(out, "session %s\n", getsid(0) == getpid() ? "own" : "other");
    for (char **variable = environ; *variable; variable++) fprintf(out, "variable %s\n", *variable);
    fclose(out);
    return 3;
}
