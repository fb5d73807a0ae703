#!/bin/busybox sh
# The first process of a guest with a disk: loads what it takes to mount it, and hands over to systemd on it.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs devtmpfs /dev
for module in $(cat /etc/modules-load); do
    insmod "/modules/$module" 2>/dev/null
done
until mount -t ext4 /dev/vda /disk 2>/dev/null; do sleep 1; done
exec switch_root /disk /usr/lib/systemd/systemd
