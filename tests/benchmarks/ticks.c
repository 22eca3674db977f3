/* The peer of the watching benchmark: the same looks at the same moments, as a program in C makes them.
 * Usage: ticks COUNT INTERVAL_NS. Prints how many of the moments it missed, and the seconds of processor time that it took.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static long now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    long due = atol(words[1]), interval_ns = atol(words[2]), tick = 0, looks = 0, seen = 0;
    int available = open("/proc/sys/kernel/random/entropy_avail", O_RDONLY), device = open("/dev/random", O_RDONLY | O_NONBLOCK);
    if (available < 0 || device < 0)
        return 1;
    char text[32];
    long start = now_ns(CLOCK_MONOTONIC);
    while (tick < due) {
        long at = start + tick * interval_ns;
        struct timespec moment = {at / 1000000000L, at % 1000000000L};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
        struct pollfd random = {device, POLLIN, 0};
        seen += poll(&random, 1, 0);
        ssize_t length = pread(available, text, sizeof text - 1, 0);
        text[length > 0 ? length : 0] = 0;
        seen += atoi(text) + (now_ns(CLOCK_BOOTTIME) > now_ns(CLOCK_REALTIME));
        looks++;
        long next = (now_ns(CLOCK_MONOTONIC) - start) / interval_ns + 1;
        tick = next > tick + 1 ? next : tick + 1;
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double busy_s = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("%ld %.6f\n", due - looks, busy_s);
    return seen < 0;
}
