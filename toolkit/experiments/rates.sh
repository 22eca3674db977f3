# What a guest runs that is booted to see how fast its virtio-rng gives; see toolkit/experiments/rates.py.
# Before it stand: quiet_from_s (empty where a few bytes more or less do not matter), draw_s, records, limit_s.
#
# The kernel's own thread "hwrng" draws 64 bytes from the same device now and then: after a boot of t seconds, every t/2. It begins
# anew when another source is chosen, draws at once, and then sleeps for t/2, which is when the reader has the device for itself.
# That it did not run meanwhile is read from what the scheduler counted, not assumed. A thread that has not got its 64 bytes within
# draw_s, many times what the limit explains, gets them never: then the source is read once all the same, and that is said.

hw=/sys/class/misc/hw_random
seconds() {
    read -r up _ < /proc/uptime
    echo "${up%.*}"
}
thread() {
    for each in /proc/[0-9]*; do
        read -r name < "$each/comm" && [ "$name" = hwrng ] && echo "${each#/proc/}"
    done 2> /dev/null
}
asleep() { grep -q "^State:.S" "/proc/$1/status" 2> /dev/null; }
waits() { grep -q "^State:.D" "/proc/$1/status" 2> /dev/null; }
ran() { cat "/proc/$1/schedstat" 2> /dev/null || echo gone; }

late=
for attempt in 1 2 3; do
    if [ -n "$quiet_from_s" ]; then
        until [ "$(seconds)" -ge "$quiet_from_s" ]; do sleep 0.5; done
        source=$(cat $hw/rng_current)
        echo none > $hw/rng_current && echo "$source" > $hw/rng_current
        sleep 0.2
        until_s=$(($(seconds) + draw_s))
        late=
        until asleep "$(thread)"; do
            sleep 0.1
            [ "$(seconds)" -lt "$until_s" ] || { late=yes && break; }
        done
    fi
    feeder=$(thread)
    before=$(ran "$feeder")
    rm -f /out/reads
    reader_file reads "$records"
    timeout -s KILL "$limit_s" ./read 1<> /out/reads
    if [ "$before" = "$(ran "$feeder")" ]; then
        if [ -n "$late" ] && waits "$feeder"; then
            echo stalled > /out/thread
            break
        fi
        echo undisturbed > /out/thread
        break
    fi
    echo disturbed > /out/thread
    [ -n "$quiet_from_s" ] || break
done
record_machine
