/* A disk that fails on request: a library for LD_PRELOAD, which lets calls of the system fail for some files.

   FAULTY_DISK holds rules, separated by ';'. A rule is OPERATION:ERRNO:FIRST:PATTERN, such as
   open:13:1:*.part.h5. It lets OPERATION fail with ERRNO for files whose absolute path matches PATTERN,
   from the FIRST such call of the process on. The operations are open, list, read, write, lock, sync, chmod, rename,
   link and space. ERRNO is not used for space: the disk reports 0 bytes free. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define RULES 16
static int calls[RULES];

static int fails(const char *operation, const char *path) {
    const char *rules = getenv("FAULTY_DISK");
    if (!rules || !*rules || !path) return 0;
    char text[4096], full[2 * PATH_MAX], *rest = NULL;
    if (path[0] == '/') {
        snprintf(full, sizeof full, "%s", path);
    } else {
        char folder[PATH_MAX];
        if (!getcwd(folder, sizeof folder)) return 0;
        snprintf(full, sizeof full, "%s/%s", folder, path);
    }
    for (size_t end = strlen(full); end > 1 && full[end - 1] == '/'; end--) full[end - 1] = 0;
    snprintf(text, sizeof text, "%s", rules);
    int number = 0;
    for (char *rule = strtok_r(text, ";", &rest); rule && number < RULES; rule = strtok_r(NULL, ";", &rest), number++) {
        char *next = NULL;
        char *name = strtok_r(rule, ":", &next), *code = strtok_r(NULL, ":", &next), *first = strtok_r(NULL, ":", &next);
        if (!name || !code || !first || strcmp(name, operation) || fnmatch(next, full, 0)) continue;
        if (__sync_add_and_fetch(&calls[number], 1) >= atoi(first)) {
            errno = atoi(code);
            return 1;
        }
    }
    return 0;
}

static int descriptor_fails(const char *operation, int descriptor) {
    char link[64], path[PATH_MAX];
    if (!getenv("FAULTY_DISK")) return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0) return 0;
    path[length] = 0;
    return fails(operation, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        va_list list;                                                         \
        va_start(list, flags);                                                \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                         \
        return fails("open", path) ? -1 : NEXT(name)(path, flags, mode);      \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                          \
    int name(int folder, const char *path, int flags, ...) {                  \
        va_list list;                                                         \
        va_start(list, flags);                                                \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                         \
        return fails("open", path) ? -1 : NEXT(name)(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

DIR *opendir(const char *path) { return fails("list", path) ? NULL : NEXT(opendir)(path); }

#define ON_DESCRIPTOR(operation, result, name, parameters, arguments)         \
    result name parameters { return descriptor_fails(operation, descriptor) ? -1 : NEXT(name) arguments; }
ON_DESCRIPTOR("read", ssize_t, read, (int descriptor, void *data, size_t size), (descriptor, data, size))
ON_DESCRIPTOR("read", ssize_t, pread, (int descriptor, void *data, size_t size, off_t at), (descriptor, data, size, at))
ON_DESCRIPTOR("read", ssize_t, pread64, (int descriptor, void *data, size_t size, off64_t at), (descriptor, data, size, at))
ON_DESCRIPTOR("write", ssize_t, write, (int descriptor, const void *data, size_t size), (descriptor, data, size))
ON_DESCRIPTOR("lock", int, flock, (int descriptor, int operation), (descriptor, operation))
ON_DESCRIPTOR("sync", int, fsync, (int descriptor), (descriptor))
ON_DESCRIPTOR("sync", int, fdatasync, (int descriptor), (descriptor))
ON_DESCRIPTOR("chmod", int, fchmod, (int descriptor, mode_t mode), (descriptor, mode))

int chmod(const char *path, mode_t mode) { return fails("chmod", path) ? -1 : NEXT(chmod)(path, mode); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    return fails("chmod", path) ? -1 : NEXT(fchmodat)(folder, path, mode, flags);
}
int rename(const char *from, const char *to) { return fails("rename", to) ? -1 : NEXT(rename)(from, to); }
int renameat(int source, const char *from, int target, const char *to) {
    return fails("rename", to) ? -1 : NEXT(renameat)(source, from, target, to);
}
int link(const char *from, const char *to) { return fails("link", to) ? -1 : NEXT(link)(from, to); }
int linkat(int source, const char *from, int target, const char *to, int flags) {
    return fails("link", to) ? -1 : NEXT(linkat)(source, from, target, to, flags);
}

#define SPACE(name, type)                                                     \
    int name(const char *path, struct type *found) {                          \
        int result = NEXT(name)(path, found);                                 \
        if (!result && fails("space", path)) found->f_bavail = found->f_bfree = 0; \
        return result;                                                        \
    }
SPACE(statvfs, statvfs)
SPACE(statvfs64, statvfs64)
