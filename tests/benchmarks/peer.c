/* The peer of the allocation benchmark: the same methods, as a program in C has them.
 * Usage: peer FILE METHOD SIZE. Makes the file, allocates it by the method, removes it; prints the method's nanoseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void check(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

int main(int count, char **words)
{
    check(count == 4, "usage: peer FILE METHOD SIZE");
    const char *method = words[2];
    long size = atol(words[3]), block_bytes = 0;
    if (strncmp(method, "write_", 6) == 0)
        block_bytes = atol(method + 6) * 1024;
    char *block = malloc(block_bytes + 1);
    memset(block, 0, block_bytes + 1);
    int fd = open(words[1], O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    check(fd >= 0, words[1]);
    long begun = now_ns();
    if (block_bytes) {
        for (long left = size / block_bytes; left; left--)
            check(write(fd, block, block_bytes) == block_bytes, "write");
    } else if (strcmp(method, "mmap_memset") == 0) {
        check(ftruncate(fd, size) == 0, "ftruncate");
        void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        check(mapped != MAP_FAILED, "mmap");
        memset(mapped, 0, size);
        munmap(mapped, size);
    } else if (strcmp(method, "posix_fallocate") == 0) {
        errno = posix_fallocate(fd, 0, size);
        check(errno == 0, method);
    } else if (strcmp(method, "fallocate") == 0) {
        check(fallocate(fd, 0, 0, size) == 0, method);
    } else {
        check(strcmp(method, "ftruncate") == 0 && ftruncate(fd, size) == 0, method);
    }
    long took_ns = now_ns() - begun;
    check(unlink(words[1]) == 0, "unlink");
    printf("%ld\n", took_ns);
    return 0;
}
