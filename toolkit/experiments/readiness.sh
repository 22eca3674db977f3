# What a guest runs that is booted to see when its random number generator is ready; see toolkit/experiments/boot_once.py.
# Before it stand: asked, budget_s, watch_s, feeder.

seconds() {
    read -r up _ < /proc/uptime
    echo "${up%.*}"
}
ready() { dmesg | grep -q "random: crng init done"; }

if [ -n "$feeder" ]; then
    # In the foreground, so that its number is known; what it says is nobody's.
    (exec $feeder) > /dev/null 2>&1 < /dev/null &
    feeding=$!
fi
if [ "$asked" = urandom ]; then
    dd if=/dev/urandom of=/dev/null bs=32 count=20 2> /dev/null
fi
if [ "$asked" != nothing ]; then
    reader_file asked 64
    ./ask 1<> /out/asked &
    asking=$!
fi
until ready || [ "$(seconds)" -ge "$budget_s" ]; do
    sleep 0.3
done
while [ "$(seconds)" -lt "$watch_s" ]; do
    sleep 0.5
done
if [ -n "$feeder" ]; then
    # A feeder that has ended is no feeder: then there is no such file.
    cat "/proc/$feeding/stat" > /out/feeder 2> /dev/null || rm -f /out/feeder
fi
record_machine
# It may wait for ever; what it wrote down tells since when.
[ -z "$asking" ] || kill -9 "$asking" 2> /dev/null
