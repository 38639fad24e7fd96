/* Preloaded into a process: from the FAIL_AFTER-th call of FAIL_OP on, those on a path below FAIL_BELOW fail with
   FAIL_ERRNO. FAIL_OP is one of open read write rename fsync flock; nothing fails while it is not set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int calls = 0;

static int below(const char *path)
{
    const char *prefix = getenv("FAIL_BELOW");
    return path && prefix && strncmp(path, prefix, strlen(prefix)) == 0;
}

static int descriptor_below(int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return below(path);
}

static int fails(const char *operation, int is_below)
{
    const char *asked = getenv("FAIL_OP"), *after = getenv("FAIL_AFTER"), *number = getenv("FAIL_ERRNO");
    if (!asked || !after || !number || strcmp(asked, operation) != 0 || !is_below)
        return 0;
    if (__sync_add_and_fetch(&calls, 1) < atoi(after))
        return 0;
    errno = atoi(number);
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
    real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(int, #name, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return fails("open", below(path)) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define TRANSFER(name, operation, pointer) \
    ssize_t name(int file, pointer bytes, size_t size) \
    { \
        REAL(ssize_t, #name, int, pointer, size_t); \
        return fails(operation, descriptor_below(file)) ? -1 : real(file, bytes, size); \
    }
TRANSFER(read, "read", void *)
TRANSFER(write, "write", const void *)

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return fails("rename", below(to)) ? -1 : real(from, to);
}

int fsync(int file)
{
    REAL(int, "fsync", int);
    return fails("fsync", descriptor_below(file)) ? -1 : real(file);
}

int flock(int file, int operation)
{
    REAL(int, "flock", int, int);
    return fails("flock", descriptor_below(file)) ? -1 : real(file, operation);
}
