#!/bin/busybox sh
# The first process of a guest that is a kernel and what fits into its initramfs: mounts, modules, one experiment, its result, power
# off. Every program is busybox, but for those that the experiment brings. /lab/settings says which modules and which port.
# The host's end of the port hears lines; after the line "result BYTES" come the files of /out as one tar archive of so many bytes.

/bin/busybox mkdir -p /bin /dev /lab /out /proc /sys /tmp /run /var/run
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=0700 out /out
. /lab/settings

# The kernel stamps this line with its own clock, which "crng init done" is stamped with too.
note() { echo "virt-toolkit: $*" > /dev/kmsg; }
fail() {
    note "failed: $*"
    echo "virt-toolkit: failed: $*" > /dev/console
    poweroff -f
}
tell() { echo "$*" >&3; }

# Where the names of those processes are that run a program: the kernel's own have none.
programs() {
    for each in proc/[0-9]*; do
        [ ! -e "$each/exe" ] || echo "$each/comm"
    done
}

# What the sensors read of a machine, as files below /out/tree; a file that cannot be read is left out.
record_machine() {
    cd / || return
    for each in proc/cpuinfo proc/cmdline proc/stat proc/uptime proc/sys/kernel/osrelease proc/sys/kernel/random/* \
        sys/class/misc/hw_random/rng_* sys/module/rng_core/parameters/* $(programs); do
        mkdir -p "/out/tree/${each%/*}"
        cat "$each" > "/out/tree/$each" 2> /dev/null || rm -f "/out/tree/$each"
    done
    for each in sys/bus/virtio/devices/*; do
        [ -e "$each/device" ] || continue
        mkdir -p "/out/tree/$each"
        cat "$each/device" > "/out/tree/$each/device"
        [ ! -e "$each/driver" ] || { mkdir "/out/tree/$each/driver" && : > "/out/tree/$each/driver/uevent"; }
    done
    # A read of the log waits for more at its end: what has been read by the time that our own last line is there is all of it.
    mkdir -p /out/tree/dev
    cat /dev/kmsg > /out/tree/dev/kmsg &
    log=$!
    note "end of the record"
    until grep -q "virt-toolkit: end of the record" /out/tree/dev/kmsg; do sleep 0.1; done
    kill "$log"
    cd /lab || return
}

# A file for a reader's records: reader_file NAME RECORDS, with 24 bytes a record.
reader_file() { truncate -s $(($2 * 24)) "/out/$1"; }

note "user space"
for each in $modules; do
    insmod "/lab/modules/$each" || fail "cannot load $each"
done
# The device tells of its ports a moment after its driver is there.
tries=0
until [ -e /proc/$$/fd/3 ]; do
    for each in /sys/class/virtio-ports/*; do
        [ ! -e "$each/name" ] || [ "$(cat "$each/name")" != "$port" ] || exec 3<> "/dev/${each##*/}"
    done
    tries=$((tries + 1))
    [ "$tries" -lt 500 ] || fail "there is no port $port"
    usleep 20000
done
hostname "$hostname"
cd /lab || fail "there is no /lab"

. /lab/experiment

tar -c -f /tmp/result -C /out . || fail "the result cannot be packed"
tell "result $(wc -c < /tmp/result)"
cat /tmp/result >&3 || fail "the result cannot be sent"
# A write returns before the host has it, and what lies in the device's queue is lost when the power is off.
read -r -t 300 taken <&3
poweroff -f
