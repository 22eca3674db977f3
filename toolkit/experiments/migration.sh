# What a guest runs that is moved to another QEMU while it reads; see toolkit/experiments/migration.py.
# Before it stand: records, limit_s, quiet_from_s (empty where a few bytes more or less do not matter).

hw=/sys/class/misc/hw_random

# The guest's clock, in ns, as the reader sees it; the host hears of it a moment later.
note_clock() {
    reader_file "clock.$1" 1
    ./clock 1<> "/out/clock.$1"
    tell "$1"
}
# The host's end of the port is another one after the move, and may not be there yet: then a read ends at once.
hear() {
    until read -r word <&3; do usleep 20000; done
}
thread() {
    for each in /proc/[0-9]*; do
        read -r name < "$each/comm" && [ "$name" = hwrng ] && cat "$each/$1"
    done 2> /dev/null
}
# How long it ran, and how often.
feeder() { thread schedstat; }
asleep() { thread status | grep -q "^State:.S"; }

# The kernel's own thread "hwrng" draws from the same device now and then, as rates.sh tells; where that matters it is put to sleep in
# the same way. Whether it drew all the same is read from what the scheduler counted.
if [ -n "$quiet_from_s" ]; then
    until read -r up _ < /proc/uptime && [ "${up%.*}" -ge "$quiet_from_s" ]; do sleep 0.5; done
    source=$(cat $hw/rng_current)
    echo none > $hw/rng_current && echo "$source" > $hw/rng_current
    sleep 0.2
    until asleep || [ "${up%.*}" -ge "$((quiet_from_s * 2 + 60))" ]; do
        sleep 0.1
        read -r up _ < /proc/uptime
    done
fi
before=$(feeder)
reader_file reads "$records"
timeout -s KILL "$limit_s" ./read 1<> /out/reads &
note_clock reading
hear
note_clock "$word"
hear
killall -KILL read 2> /dev/null
wait
note_clock end
if [ "$before" = "$(feeder)" ]; then echo asleep; else echo drew; fi > /out/kernel
record_machine
