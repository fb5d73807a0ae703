#!/bin/busybox sh
# The first process of a guest: sets it up, runs its command, prints the exit code, switches off.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
chmod 1777 /tmp
hostname guest
ip link set lo up
for module in $(cat /etc/modules-load); do
    insmod "/modules/$module" 2>/dev/null
done
sh /command
echo "portguard-guest-exit: $?"
poweroff -f
