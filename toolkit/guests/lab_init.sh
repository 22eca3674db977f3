#!/bin/sh
# The first process of a lab guest, in the initramfs that virtme-ng made: mounts, modules, one command, power off. Every program is
# the initramfs' busybox, because starting one from the host's root file system takes a tenth of a second under TCG.
# /lab/settings says which modules, and defines run_command. Host and guest speak of it on the console, in lines "virt-toolkit: ...".

export PATH=/bin
say() { echo "virt-toolkit: $*" > /dev/console; }
fail() {
    say "failed: $*"
    busybox poweroff -f
}

busybox mount -t devtmpfs dev /dev
busybox mount -t proc -o nosuid,noexec,nodev proc /proc
. /lab/settings
. /modules/load_all.sh

# Loose caching makes Python start in a third of the time; a file that changes on the host meanwhile may be seen as it was.
busybox mkdir /host /over /guest
busybox mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose /dev/root /host ||
    fail "the host's root file system cannot be mounted"

# name:file, in order; what virtme-ng has loaded already is left out.
for each in $modules; do
    busybox grep -q "^${each%%:*} " /proc/modules || busybox insmod "/host${each#*:}" || fail "cannot load ${each#*:}"
done

# All that the guest writes stays in its memory, also where it may write to what belongs to the host's root.
busybox mount -t tmpfs -o mode=0755 over /over
busybox mkdir /over/upper /over/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work,xino=off over /guest ||
    fail "the overlay cannot be mounted"
busybox mount -t proc -o nosuid,noexec,nodev proc /guest/proc
busybox mount -t sysfs -o nosuid,noexec,nodev sys /guest/sys
busybox mount -t devtmpfs dev /guest/dev
busybox mount -t tmpfs -o mode=0755,nosuid,nodev run /guest/run
busybox mkdir -p /dev/shm /dev/pts /dev/virtio-ports
busybox mount -t tmpfs -o mode=1777,nosuid,nodev shm /guest/dev/shm
busybox mount -t devpts -o mode=0620,ptmxmode=0666,noexec,nosuid pts /guest/dev/pts
busybox ln -sf /proc/self/fd /dev/fd
busybox hostname "$hostname"
# What udev does. A port that is plugged again gets its number again, so the link is right again.
for port in /sys/class/virtio-ports/* /guest/sys/class/virtio-ports/*; do
    [ -e "$port/name" ] || continue
    read -r name < "$port/name"
    busybox ln -sf "../${port##*/}" "/dev/virtio-ports/$name"
done

# Modules that the kernel asks for itself, such as a file system's at its first mount. It asks in the initramfs.
printf '#!/bin/sh\nexec /bin/busybox chroot /guest /sbin/modprobe "$@"\n' > /lab/modprobe
busybox chmod 755 /lab/modprobe
echo /lab/modprobe > /proc/sys/kernel/modprobe

say "command starts"
run_command < /dev/null > /dev/console 2>&1
status=$?
echo > /dev/console
say "command ended with status $status"
busybox poweroff -f
