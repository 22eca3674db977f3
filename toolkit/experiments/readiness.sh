# What a guest runs that is booted to see when its random number generator is ready; see toolkit/experiments/boot_once.py.
# Before it stand: asked, budget_s, watch_s, feeder.

seconds() {
    read -r up _ < /proc/uptime
    echo "${up%.*}"
}
ready() { dmesg | grep -q "random: crng init done"; }

if [ -n "$feeder" ]; then
    # In the foreground, so that its number is known.
    (exec $feeder) > /run/feeder 2>&1 < /dev/null &
    feeding=$!
fi
if [ "$asked" != nothing ]; then
    [ "$asked" != urandom ] || reader_file early 20
    reader_file asked 64
    (
        # Either may wait: since Linux 5.18 a read of /dev/urandom does too.
        [ "$asked" != urandom ] || ./early 1<> /out/early
        exec ./ask 1<> /out/asked
    ) &
    asking=$!
fi
# What it cost is seen at one moment after the boot, the same for guests that are ready and those that are not, and told the host, which
# looks at QEMU's at that moment too. Until then each looks for the kernel's line as often as the other.
over=
costed=
while true; do
    now=$(seconds)
    if ready || [ "$now" -ge "$budget_s" ]; then over=yes; fi
    if [ -z "$costed" ] && [ "$now" -ge "$watch_s" ] && { [ "$watch_s" -gt 0 ] || [ -n "$over" ]; }; then
        note "costs"
        cat /proc/stat > /out/stat
        [ -z "$feeder" ] || cat "/proc/$feeding/stat" > /out/feeder 2> /dev/null
        tell costs
        costed=yes
    fi
    if [ -n "$over" ] && [ -n "$costed" ]; then break; fi
    sleep 0.3
done
# A feeder that has ended is no feeder: then there is no such file.
[ -z "$feeder" ] || [ -e "/proc/$feeding/stat" ] || rm -f /out/feeder
[ -z "$feeder" ] || tail -c 2000 /run/feeder > /out/said
record_machine
# It may wait for ever; what it wrote down tells since when.
[ -z "$asking" ] || kill -9 "$asking" 2> /dev/null
